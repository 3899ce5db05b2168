"""Few-step distillation of a trained SD 1.5 model: latent consistency, as a LoRA (arXiv 2311.05556).

The student, the denoiser with a LoRA, learns to jump from any point of the guided teacher's path to its
end: what it says at one timestep must be what it says one solver step further on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import LCMScheduler
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor, nn

from lightningdrag.checkpoints.tensors import save_half
from lightningdrag.pipeline import LightningDragPipeline
from lightningdrag.training.draws import Draws
from lightningdrag.training.loader import Batch
from lightningdrag.training.recipe import LCMRecipe, RecipeError
from lightningdrag.training.sd15 import SD15Task, mix

SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0
"""As in diffusers' LCMScheduler, which samples what is trained here."""
HUBER = 0.001
"""Below this an error counts as squared, above as absolute."""
LORA_LAYERS = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1",
    "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj",
)  # fmt: skip
"""The layers of the published LCM-LoRA."""


class LCMTask(SD15Task):
    """Trains a LoRA of the denoiser.

    Args:
        recipe: its ``init`` is the teacher.
    """

    weights_file = "pytorch_lora_weights.safetensors"
    shardable = False  # the denoiser, which is not registered, computes with the LoRA
    learning = ()
    preview_guidance = 1.0  # the teacher's guidance is in the student
    recipe: LCMRecipe

    def __init__(self, recipe: LCMRecipe, pipeline: LightningDragPipeline | None = None) -> None:
        if not recipe.init and pipeline is None:
            raise RecipeError("recipe key 'init' is empty; a distillation needs its teacher's folder")
        super().__init__(recipe, pipeline)
        unet = self.pipeline.unet
        torch.manual_seed(recipe.seed)
        unet.add_adapter(LoraConfig(r=recipe.rank, lora_alpha=recipe.rank, target_modules=list(LORA_LAYERS)))
        trained = [p for p in unet.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.data = parameter.data.float()
        # The denoiser that they sit in is not registered, so it stays out of checkpoints.
        self.lora = nn.ParameterList(trained)
        if len(self.alphas) % recipe.ddim_steps:
            raise RecipeError(
                f"recipe key 'ddim_steps' is {recipe.ddim_steps}; it must divide the scheduler's "
                f"{len(self.alphas)} timesteps, or the sampler would visit others than are trained"
            )
        self.stride = len(self.alphas) // recipe.ddim_steps
        self.solver_steps = torch.arange(1, recipe.ddim_steps + 1) * self.stride - 1
        self.pipeline.scheduler = lcm_scheduler(self.pipeline, recipe.ddim_steps)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Huber distance of the student's answers at two neighbouring points of the teacher's path."""
        recipe = self.recipe
        draws = Draws(recipe.seed, batch.numbers, batch.drags.source.device)
        with torch.no_grad():
            prepared = self.prepare(batch, draws)
        alphas = self.alphas.to(prepared.clean)
        late = self.solver_steps.to(alphas.device)[draws.integers(recipe.ddim_steps)]
        early = (late - self.stride).clamp_min(0)
        noisy = mix(prepared.clean, draws.normal(*prepared.clean.shape[1:]), alphas[late])
        present = torch.ones(len(noisy), device=noisy.device)
        with torch.no_grad():
            self.pipeline.unet.disable_adapters()
            without, with_points = (
                self.predict(noisy, late, prepared, shown) for shown in (0 * present, present)
            )
            # Guidance falls with the noise as the sampler's inverse_square does.
            low, high = recipe.guidance
            weight = 1 + (low + (high - low) * draws.uniform() - 1) * (late / len(alphas)) ** 2
            eps = without + weight[:, None, None, None] * (with_points - without)
            nearer = mix(denoised(noisy, eps, alphas[late]), eps, alphas[early])
            self.pipeline.unet.enable_adapters()
            target = self.answer(nearer, early, self.predict(nearer, early, prepared, present))
        torch.clear_autocast_cache()  # older torch would take up these passes' weights, without a gradient
        answer = self.answer(noisy, late, self.predict(noisy, late, prepared, present))
        return {"loss": ((answer - target).square() + HUBER**2).sqrt().mean() - HUBER}

    def answer(self, noisy: Tensor, timesteps: Tensor, eps: Tensor) -> Tensor:
        """The consistency function: at timestep 0 its input, later on the denoised latent."""
        scaled = (timesteps * TIMESTEP_SCALING)[:, None, None, None]
        skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
        out = scaled / (scaled**2 + SIGMA_DATA**2).sqrt()
        return skip * noisy + out * denoised(noisy, eps, self.alphas.to(noisy)[timesteps])

    def save_weights(self, weights: Mapping[str, Tensor], path: Path, facts: Mapping[str, object]) -> None:
        """As diffusers and :func:`lightningdrag.checkpoints.released.fuse_lcm_lora` read a LoRA."""
        state = get_peft_model_state_dict(self.pipeline.unet, adapter_name="default")
        save_half({f"unet.{name}": tensor for name, tensor in state.items()}, path, facts)


def lcm_scheduler(pipeline: LightningDragPipeline, ddim_steps: int) -> LCMScheduler:
    """A sampler that starts from the timesteps that the student has learned to jump from."""
    return LCMScheduler.from_config(pipeline.scheduler.config, original_inference_steps=ddim_steps)


def denoised(noisy: Tensor, eps: Tensor, alphas: Tensor) -> Tensor:
    """The clean latent that noise ``eps`` in ``noisy`` at ``(B,)`` cumulative alphas implies."""
    a = alphas[:, None, None, None]
    return (noisy - (1 - a).sqrt() * eps) / a.sqrt()
