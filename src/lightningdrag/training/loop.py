"""The training loop of the built-in model: stoppable at any moment, resumable, warmed down at its end."""

from __future__ import annotations

import copy
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from lightningdrag.checkpoints.builtin import load_weights, save_builtin
from lightningdrag.models.builtin.evidence import DragBatch, gather_evidence
from lightningdrag.models.builtin.model import PRIOR_SIGMA, BuiltinModel, motion_prior
from lightningdrag.models.builtin.network import NOISE_CHANNELS, BuiltinNetwork
from lightningdrag.training.loader import Batch, batches, validation_batches
from lightningdrag.training.losses import Labels, to_device, total_loss
from lightningdrag.training.recipe import Recipe
from lightningdrag.training.validate import validate

VALIDATION_CROPS = 192
STATE_FILE = "state.pt"
WEIGHTS_FILE = "builtin.safetensors"
LOG_FILE = "log.jsonl"


class Diverged(RuntimeError):
    """The loss is no finite number."""


class Trainer:
    """One run in one folder.

    Args:
        recipe: see :class:`Recipe`.
        data: a prepared dataset.
        out: the run's folder; holds the log, the state to resume from, the averaged weights, pictures.
        report: called with each log record.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Path,
        out: Path,
        report: Callable[[dict[str, Any]], None] = print,
    ) -> None:
        self.recipe, self.data, self.out, self.report = recipe, data, out, report
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(recipe.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = BuiltinNetwork()
        if recipe.init:
            load_weights(network, Path(recipe.init))
        self.network = network.to(self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.network, recipe.weight_decay),
            lr=recipe.learning_rate,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.step, self.seconds = 0, 0.0
        self.stopping = False

    # What a run leaves behind

    def resume(self) -> bool:
        """Continue from the folder's state; False if it has none."""
        path = self.out / STATE_FILE
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True, map_location="cpu")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.step, self.seconds = state["step"], state["seconds"]
        return True

    def save(self) -> None:
        """Write the state and the averaged weights, each beside and then renamed."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self.out / (STATE_FILE + ".partial")
        torch.save(state, partial)
        partial.replace(self.out / STATE_FILE)
        # The name is enough: a whole path would tell whoever gets the weights about this machine.
        recipe = {**asdict(self.recipe), "init": Path(self.recipe.init).name}
        facts = {"step": self.step, "recipe": json.dumps(recipe)}
        save_builtin(self.average, self.out / WEIGHTS_FILE, facts)

    def log(self, **record: Any) -> None:
        record = {"step": self.step, "seconds": round(self.seconds, 1), **record}
        with (self.out / LOG_FILE).open("a") as file:
            file.write(json.dumps(record) + "\n")
        self.report(record)

    # The run

    def progress(self) -> float:
        """How far the schedule is, 0 to 1, by steps or by time, whichever is further."""
        by_time = self.seconds / (60 * self.recipe.minutes) if self.recipe.minutes else 0.0
        return min(1.0, max(self.step / self.recipe.steps, by_time))

    def run(self) -> None:
        """Train to the end of the schedule, or until SIGTERM or SIGINT; save either way."""
        previous = {s: signal.signal(s, self._stop) for s in (signal.SIGTERM, signal.SIGINT)}
        dev = validation_batches(self.data, self.recipe.size, VALIDATION_CROPS, self.recipe.batch)
        try:
            self._train(dev)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        self.save()
        self.log(**self.validate(dev))

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def _train(self, dev: list[Batch]) -> None:
        stream, large = self._stream()
        saved = clock = time.monotonic()
        while self.progress() < 1 and not self.stopping:
            if not large and self.progress() >= self.recipe.large_from:
                stream, large = self._stream()
            batch, labels = next(stream)
            terms = self.train_step(batch, labels)
            now = time.monotonic()
            self.seconds, clock = self.seconds + now - clock, now
            self.step += 1
            if self.step % self.recipe.log_every == 0:
                rate = self.recipe.batch * self.step / self.seconds
                self.log(rate=round(rate, 1), **{name: round(value, 5) for name, value in terms.items()})
            if self.step % self.recipe.validate_every == 0:
                self.log(**self.validate(dev))
                clock = time.monotonic()
            if now - saved > 60 * self.recipe.checkpoint_minutes:
                self.save()
                saved = now

    def _stream(self) -> tuple[Iterator[Batch], bool]:
        large = self.progress() >= self.recipe.large_from
        size = self.recipe.large_size if large else self.recipe.size
        return batches(self.data, self.recipe, size, self.step), large

    def train_step(self, batch: DragBatch, labels: Labels) -> dict[str, float]:
        """One optimiser step; returns the loss terms.

        Raises:
            Diverged: the loss is not finite; the state on disk stays as it was.
        """
        recipe = self.recipe
        batch, labels = to_device(batch, self.device), to_device(labels, self.device)
        rate = learning_rate(recipe, self.step, self.progress())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, torch.bfloat16):
            loss, terms = self.loss(batch, labels)
        if not math.isfinite(float(loss.detach())):
            raise Diverged(f"the loss is {float(loss.detach())} at step {self.step}: {terms}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
        self.optimizer.step()
        decay = min(recipe.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        return {"loss": float(loss.detach()), **terms}

    def loss(self, batch: DragBatch, labels: Labels) -> tuple[Tensor, dict[str, float]]:
        """Denoise a motion from a random noise level, render it, and compare with the truth."""
        count = len(batch.source)
        hide = self._uniform(count) < self.recipe.point_dropout
        shown = DragBatch(
            batch.source,
            batch.mask,
            batch.handles,
            batch.targets,
            batch.valid * ~hide[:, None],
            batch.anchors,
        )
        evidence = gather_evidence(shown)
        t = torch.where(self._uniform(count) < self.recipe.start_share, 1.0, self._uniform(count))
        level = t[:, None, None, None]
        clean = clean_motion(batch, labels, evidence.length)
        temperature = self._uniform(count)[:, None, None, None]
        prior = motion_prior(evidence)
        start = prior + PRIOR_SIGMA * temperature * self._normal(*prior.shape)
        state = torch.lerp(clean, start, level)
        appearance = self.network.appearance(batch.source)
        motion = self.network.motion(state, t, shown, evidence, appearance)
        noise = self._normal(count, NOISE_CHANNELS, *evidence.mask.shape[-2:])
        rendering = self.network.renderer(motion.detach(), shown, evidence, appearance, noise)
        return total_loss(self.recipe, motion, rendering, batch.source, batch.mask, evidence, labels)

    def validate(self, dev: list[Batch]) -> dict[str, float]:
        model = BuiltinModel(copy.deepcopy(self.average), torch.bfloat16)
        scores = validate(model, dev, self.out / f"dev-{self.step:06d}.png")
        return {f"dev_{name}": round(value, 3) for name, value in scores.items()}

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator).to(self.device)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.device)


def clean_motion(batch: DragBatch, labels: Labels, length: Tensor) -> Tensor:
    """The true motion as a generated state at 1/8; unknown cells take their neighbours' mean.

    Returns ``(B, 3, H/8, W/8)``: displacement / L and visibility in [-1, 1].
    """
    pool = torch.nn.functional.avg_pool2d
    known = pool(labels.visible, 4)
    field = pool(labels.displacement * labels.visible, 4)
    wide, wide_known = pool(field, 5, 1, 2), pool(known, 5, 1, 2)
    field = torch.where(known > 0.2, field / known.clamp_min(1e-3), wide / wide_known.clamp_min(1e-3))
    hidden = pool(labels.hidden, 4)
    visible = (known - hidden) / (known + hidden).clamp_min(1e-3)
    visible = torch.where(known + hidden > 0.2, visible, torch.zeros_like(visible))
    return torch.cat((field / length * pool(batch.mask, 8), visible), 1)


def learning_rate(recipe: Recipe, step: int, progress: float) -> float:
    """Linear warm-up, a plateau, and from 60 % of the run a cosine down to 1 %."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    down = max(0.0, (progress - 0.6) / 0.4)
    return recipe.learning_rate * warm * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * down)))


def parameter_groups(network: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices and kernels; leave norms and biases alone."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
