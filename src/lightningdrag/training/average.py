"""The average of the weights over the last steps: what is looked at, and what is kept for users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.training_utils import EMAModel
from torch.nn import Parameter


class Average:
    """An exponential average of weights, or none; a run that goes on may take one up or drop it.

    Args:
        trained: the weights.
        decay: 0 = no average.
    """

    def __init__(self, trained: list[Parameter], decay: float) -> None:
        self.trained, self.decay = trained, decay
        self.kept = EMAModel(trained, decay=decay, foreach=True) if decay else None

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; empty if there is no average."""
        return self.kept.state_dict() if self.kept else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on by the decay as it is now; an average that is taken up starts from the loaded weights."""
        if self.kept is None:
            return
        if state:
            self.kept.load_state_dict({**state, "decay": self.decay})
            self.kept.to(self.trained[0].device)
        else:
            self.kept = EMAModel(self.trained, decay=self.decay, foreach=True)

    def step(self) -> None:
        """Take in the weights as they are now."""
        if self.kept:
            self.kept.step(self.trained)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The average in the place of the present weights."""
        if self.kept is None:
            yield
            return
        self.kept.store(self.trained)
        self.kept.copy_to(self.trained)
        try:
            yield
        finally:
            self.kept.restore(self.trained)
