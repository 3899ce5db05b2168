"""What a model brings to the trainer: the weights that learn, the loss of a batch, samples to look at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from lightningdrag.training.loader import Batch
from lightningdrag.training.recipe import BuiltinRecipe, LCMRecipe, Recipe, SD15Recipe


class Task(nn.Module, ABC):
    """A model in training: all that the trainer knows of it.

    Its parameters are what learns; networks that stay as they are must not be registered as submodules,
    so that neither checkpoints nor DDP nor FSDP carry them. Everything goes through ``forward``, which is
    what accelerate wraps.

    To add a loss, add a term to what :meth:`losses` returns. One that has weights of its own, such as a
    critic, registers them here: they are trained by the same optimiser, so give the critic detached
    results, and the generator a critic called through ``torch.func.functional_call`` with detached weights.
    """

    recipe: Recipe
    weights_file: str
    """Name of the file in the run's folder that :meth:`save_weights` writes."""
    shardable = True
    """Whether FSDP may put shards in its parameters' place: only if no other module computes with them."""

    def forward(self, batch: Batch, sample: bool = False) -> dict[str, Tensor]:
        """:meth:`losses` of a batch, or :meth:`samples`."""
        return self.samples(batch) if sample else self.losses(batch)

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``"loss"``, a mean over the samples that is minimised, and its terms, detached, for the log.

        All that is random comes from :class:`~lightningdrag.training.draws.Draws`.
        """

    @abstractmethod
    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """Edited images, ``(B, 3, H, W)`` in [-1, 1], by name: ``"model"``, and others to compare."""

    @abstractmethod
    def save_weights(self, weights: Mapping[str, Tensor], path: Path, facts: Mapping[str, object]) -> None:
        """Write what users load.

        Args:
            weights: this module's state dict, averaged and gathered.
            facts: of the run, for the file's header.
        """


def make_task(recipe: Recipe) -> Task:
    """The task of a recipe, with its weights as they are at the start."""
    if isinstance(recipe, LCMRecipe):
        from lightningdrag.training.lcm import LCMTask

        return LCMTask(recipe)
    if isinstance(recipe, SD15Recipe):
        from lightningdrag.training.sd15 import SD15Task

        return SD15Task(recipe)
    from lightningdrag.training.builtin import BuiltinTask

    assert isinstance(recipe, BuiltinRecipe)
    return BuiltinTask(recipe)
