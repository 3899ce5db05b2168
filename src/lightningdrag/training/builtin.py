"""The built-in model in training: denoise a motion, render it, compare with the truth."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightningdrag.checkpoints.builtin import grow_weights, save_builtin
from lightningdrag.models.builtin.evidence import DragBatch, Evidence, gather_evidence
from lightningdrag.models.builtin.model import PRIOR_SIGMA, BuiltinModel, motion_prior
from lightningdrag.models.builtin.network import NOISE_CHANNELS, Appearance, BuiltinNetwork
from lightningdrag.training.critic import Critic, adversarial_terms
from lightningdrag.training.draws import Draws
from lightningdrag.training.loader import Batch
from lightningdrag.training.losses import (
    Labels,
    motion_errors,
    motion_terms,
    rendering_terms,
    weighted_sum,
)
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
                grow_weights(network, Path(recipe.init))
        self.network = network
        self.network.appearance.requires_grad_(recipe.learns != "renderer")
        self.network.motion.requires_grad_(recipe.learns != "renderer")
        self.network.renderer.requires_grad_(recipe.learns != "motion")
        self.critic = Critic() if recipe.adversarial else None
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Generate a motion from one state, render it, compare both with the truth."""
        recipe, source, mask = self.recipe, batch.drags.source, batch.drags.mask
        draws = Draws(recipe.seed, batch.numbers, source.device)
        shown = batch.with_points(draws.uniform() >= recipe.point_dropout)
        evidence = gather_evidence(shown)
        appearance = self.network.appearance(source)
        state, t = self._states(draws, shown, evidence, appearance, batch.labels)
        torch.clear_autocast_cache()  # older torch would take up that pass's weights, without a gradient
        motion = self.network.motion(state, t, shown, evidence, appearance)
        terms = [motion_terms(motion, source, mask, evidence, batch.labels)]
        if recipe.learns != "motion":
            fill = draws.normal(NOISE_CHANNELS, *evidence.mask.shape[-2:])
            rendering = self.network.renderer(motion.detach(), shown, evidence, appearance, fill)
            terms.append(rendering_terms(rendering, source, mask, evidence, batch.labels))
            if self.critic is not None:
                terms.append(adversarial_terms(self.critic, rendering.colour, batch.labels, mask))
        return weighted_sum(recipe, *terms)

    @torch.no_grad()
    def _states(
        self, draws: Draws, shown: DragBatch, evidence: Evidence, appearance: Appearance, labels: Labels
    ) -> tuple[Tensor, Tensor]:
        """States to learn from, ``(B, 3, H/8, W/8)``, and their noise levels, ``(B,)``.

        A share starts at the prior itself, as the first candidate does. The others start from that one of
        several draws of noise which brings the model nearest to the truth (implicit maximum likelihood,
        Li and Malik 2018, arXiv 1809.09087), so that noise comes to mean one of several motions instead
        of being averaged away; half of them stand on the way from there to the model's own estimate, which
        is where a second step begins.
        """
        prior = motion_prior(evidence)
        state, t = prior.clone(), prior.new_ones(len(prior))
        noisy = (draws.uniform() >= self.recipe.start_share).nonzero()[:, 0]
        on_the_way, level = draws.uniform() < 0.5, draws.uniform()
        noise = [draws.normal(*prior.shape[1:]) for _ in range(self.recipe.candidates)]
        if not len(noisy):
            return state, t
        some = partial(take, rows=noisy)
        inputs = (some(shown), some(evidence), some(appearance))
        half_mask, length = F.avg_pool2d(shown.mask[noisy], 2), evidence.length[noisy]
        least = torch.full_like(t[noisy], torch.inf)
        start = estimate = prior[noisy]
        for draw in noise:
            candidate = prior[noisy] + PRIOR_SIGMA * draw[noisy]
            motion = self.network.motion(candidate, t[noisy], *inputs)
            error = motion_errors(motion.displacement * length, some(labels), half_mask, length).sizes()
            better = (error < least)[:, None, None, None]
            start = torch.where(better, candidate, start)
            estimate = torch.where(better, motion.state(), estimate)
            least = torch.minimum(error, least)
        t[noisy] = torch.where(on_the_way[noisy], level[noisy], t[noisy])
        state[noisy] = torch.lerp(estimate, start, t[noisy][:, None, None, None])
        return state, t

    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """The likeliest result (``model``), and the source through its motion (``model_warp``)."""
        drags = batch.drags
        model = BuiltinModel(
            self.network, torch.bfloat16 if self.recipe.precision == "bf16" else torch.float32
        )
        rendering = model.likeliest(drags)
        result = torch.lerp(drags.source, rendering.compose(drags.source), drags.mask)
        return {"model": result, "model_warp": warped(drags.source, rendering.displacement)}

    def save_weights(self, weights: Mapping[str, Tensor], path: Path, facts: Mapping[str, object]) -> None:
        network = BuiltinNetwork(self.network.config)
        prefix = "network."
        own = {name.removeprefix(prefix): x for name, x in weights.items() if name.startswith(prefix)}
        network.load_state_dict(own)
        save_builtin(network, path, facts)


def take(item: Any, rows: Tensor) -> Any:
    """Some samples of a dataclass of tensors."""
    taken = {
        name: tuple(x[rows] for x in value) if isinstance(value, tuple) else value[rows]
        for name, value in vars(item).items()
    }
    return type(item)(**taken)
