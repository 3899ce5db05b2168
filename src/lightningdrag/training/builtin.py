"""The built-in model in training: denoise a motion, render it, compare with the truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lightningdrag.checkpoints.builtin import load_weights, save_builtin
from lightningdrag.models.builtin.evidence import gather_evidence
from lightningdrag.models.builtin.model import PRIOR_SIGMA, BuiltinModel, motion_prior
from lightningdrag.models.builtin.network import NOISE_CHANNELS, BuiltinNetwork
from lightningdrag.training.draws import Draws
from lightningdrag.training.loader import Batch
from lightningdrag.training.losses import Labels, total_loss
from lightningdrag.training.recipe import BuiltinRecipe
from lightningdrag.training.task import Task
from lightningdrag.warp import sample as warped


class BuiltinTask(Task):
    """Trains a :class:`BuiltinNetwork`.

    Args:
        network: the weights; None makes them as the recipe says.
    """

    weights_file = "builtin.safetensors"

    def __init__(self, recipe: BuiltinRecipe, network: BuiltinNetwork | None = None) -> None:
        super().__init__()
        self.recipe: BuiltinRecipe = recipe
        if network is None:
            torch.manual_seed(recipe.seed)
            network = BuiltinNetwork()
            if recipe.init:
                load_weights(network, Path(recipe.init))
        self.network = network
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Start from a random noise level; see :func:`total_loss`."""
        recipe, source = self.recipe, batch.drags.source
        draws = Draws(recipe.seed, batch.numbers, source.device)
        shown = batch.with_points(draws.uniform() >= recipe.point_dropout)
        evidence = gather_evidence(shown)
        t = torch.where(draws.uniform() < recipe.start_share, 1.0, draws.uniform())
        clean = clean_motion(batch.drags.mask, batch.labels, evidence.length)
        prior = motion_prior(evidence)
        noise = draws.uniform(1, 1, 1) * draws.normal(*prior.shape[1:])
        state = torch.lerp(clean, prior + PRIOR_SIGMA * noise, t[:, None, None, None])
        appearance = self.network.appearance(source)
        motion = self.network.motion(state, t, shown, evidence, appearance)
        fill = draws.normal(NOISE_CHANNELS, *evidence.mask.shape[-2:])
        rendering = self.network.renderer(motion.detach(), shown, evidence, appearance, fill)
        loss, terms = total_loss(recipe, motion, rendering, source, batch.drags.mask, evidence, batch.labels)
        return {"loss": loss, **{name: loss.new_tensor(value) for name, value in terms.items()}}

    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """The likeliest result (``model``), and the source through its motion (``model_warp``)."""
        drags = batch.drags
        model = BuiltinModel(
            self.network, torch.bfloat16 if self.recipe.precision == "bf16" else torch.float32
        )
        rendering = model.sample(
            drags,
            self.network.appearance(drags.source),
            torch.Generator().manual_seed(0),
            weights=[1.0] * model.default_steps,
            temperature=torch.full((len(drags.source), 1, 1, 1), model.default_temperature),
        )
        result = torch.lerp(drags.source, rendering.compose(drags.source), drags.mask)
        return {"model": result, "model_warp": warped(drags.source, rendering.displacement)}

    def save_weights(self, weights: Mapping[str, Tensor], path: Path, facts: Mapping[str, object]) -> None:
        network = BuiltinNetwork(self.network.config)
        prefix = "network."
        network.load_state_dict({name.removeprefix(prefix): weights[name] for name in weights})
        save_builtin(network, path, facts)


def clean_motion(mask: Tensor, labels: Labels, length: Tensor) -> Tensor:
    """The true motion as a generated state at 1/8; unknown cells take their neighbours' mean.

    Args:
        mask: ``(B, 1, H, W)``.
        length: ``(B, 1, 1, 1)``, L in pixels.

    Returns:
        ``(B, 3, H/8, W/8)``: displacement / L and visibility in [-1, 1].
    """
    known = F.avg_pool2d(labels.visible, 4)
    field = F.avg_pool2d(labels.displacement * labels.visible, 4)
    wide, wide_known = F.avg_pool2d(field, 5, 1, 2), F.avg_pool2d(known, 5, 1, 2)
    field = torch.where(known > 0.2, field / known.clamp_min(1e-3), wide / wide_known.clamp_min(1e-3))
    hidden = F.avg_pool2d(labels.hidden, 4)
    visible = (known - hidden) / (known + hidden).clamp_min(1e-3)
    visible = torch.where(known + hidden > 0.2, visible, torch.zeros_like(visible))
    return torch.cat((field / length * F.avg_pool2d(mask, 8), visible), 1)
