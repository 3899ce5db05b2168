"""The training loop: any task, one process or many, stoppable at any moment, continued exactly."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from types import FrameType
from typing import Any, NoReturn
from uuid import uuid4

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedType,
    ProjectConfiguration,
    broadcast_object_list,
    gather_object,
)
from torch import Tensor

from lightningdrag.data.shards import shard_files
from lightningdrag.evaluation.provenance import provenance
from lightningdrag.files import write_atomically
from lightningdrag.memory import peak_bytes
from lightningdrag.training.average import Average
from lightningdrag.training.checkpoints import check_held, list_checkpoints, save_checkpoint
from lightningdrag.training.loader import Batch, Share, batches, validation_batches
from lightningdrag.training.log import Report, RunLog
from lightningdrag.training.recipe import Recipe, RecipeError, absolute, published, with_absolute_places
from lightningdrag.training.task import Task
from lightningdrag.training.validate import validate

DIVERGED_FILE = "diverged.json"
RUN_FILE = "run.json"
SETTLED = 50
"""Steps after which the running mean of the loss is taken for what is usual."""


class Diverged(RuntimeError):
    """The loss or its gradient is no finite number, or the loss has exploded."""


class _Stopped(Exception):
    """All processes have agreed to leave what they were at."""


class Trainer:
    """One run in one folder. How many processes and of what kind, accelerate knows from its launcher.

    Args:
        task: what is trained, with its recipe.
        data: a prepared dataset's folder.
        out: the run's folder; holds recipe, log, checkpoints, the averaged weights, pictures.
        report: called with each log record, in the main process.

    Raises:
        RecipeError: the batch does not divide among the processes, or FSDP meets an average of weights.
        ValueError: FSDP of another version than 2, or a task that it cannot shard.
    """

    def __init__(self, task: Task, data: str | Path, out: Path, report: Report = print) -> None:
        recipe = self.recipe = task.recipe
        self.task, self.data, self.out = task, str(data), out
        out.mkdir(parents=True, exist_ok=True)
        self.accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(),  # said so, it takes gloo for several processes
            mixed_precision="bf16" if recipe.precision == "bf16" else "no",
            dynamo_backend="inductor" if recipe.compile else None,
            log_with=list(recipe.trackers) or None,
            project_config=ProjectConfiguration(str(out), logging_dir=str(out / "tensorboard")),
        )
        self.micro = micro_batch(recipe, self.accelerator.num_processes)
        self.accelerator.gradient_accumulation_steps = recipe.batch // (
            self.micro * self.accelerator.num_processes
        )
        if self.accelerator.distributed_type == DistributedType.FSDP:
            self._check_sharding()
            task.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # all that FSDP takes
        groups = parameter_groups(task, recipe.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.99), fused=True)
        self.model, self.optimizer = self.accelerator.prepare(task, optimizer)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.average = Average(self.trained, recipe.ema)
        self.accelerator.register_for_checkpointing(self.average, self)
        self.log = RunLog(self.accelerator, out, report)
        self.step, self.seconds, self.usual_loss = 0, 0.0, 0.0
        self.unlogged: list[dict[str, float]] = []
        self._saved_step = 0
        self.shards: list[str] = []
        self.stopping = self._asked_to_stop = False
        self._clock = time.monotonic()

    def _check_sharding(self) -> None:
        if not self.accelerator.is_fsdp2:
            raise ValueError("accelerate's configuration asks for FSDP 1; it must say fsdp_version: 2")
        if self.recipe.ema:
            raise RecipeError("recipe key 'ema' must be 0 with FSDP: an average of shards is not kept")
        if not self.task.shardable:
            raise ValueError(f"a model of kind {self.recipe.model!r} cannot be trained with FSDP; take DDP")

    # What a run leaves behind

    def state_dict(self) -> dict[str, Any]:
        """What accelerate keeps of the loop itself."""
        names = ("step", "seconds", "usual_loss", "unlogged")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        for name, value in state.items():
            setattr(self, name, value)
        self._saved_step = self.step

    def resume(self) -> bool:
        """Continue from the folder's last checkpoint, by the recipe as it is now; False if it has none.

        Raises:
            RecipeError: it asks for other weights than the checkpoint holds.
            ValueError: the checkpoint cannot be read.
        """
        found = list_checkpoints(self.out)
        if not found:
            return False
        check_held(self._read_facts().get("recipe", {}), self.recipe)
        decays = [group["weight_decay"] for group in self.optimizer.param_groups]
        try:
            self.accelerator.load_state(str(found[-1]))
        except Exception as error:  # whatever a damaged file makes torch, pickle or safetensors raise
            before = f"to go on from {found[-2].name}, remove it" if found[1:] else "there is none before it"
            raise ValueError(
                f"checkpoint {found[-1]} cannot be read ({error}); if it is damaged: {before}"
            ) from error
        self.accelerator.step = 0  # of micro-batches: there may be more or fewer to a batch by now
        for group, decay in zip(self.optimizer.param_groups, decays, strict=True):
            group["weight_decay"] = decay
        return True

    def save(self) -> None:
        """Write the weights that users load, then a checkpoint, each beside and then renamed."""
        with self.average.in_place():
            weights = self.accelerator.get_state_dict(self.model)
            if self.accelerator.is_main_process:
                facts = {"step": self.step, "recipe": json.dumps(published(self.recipe))}
                plain = {name.removeprefix("_orig_mod."): tensor for name, tensor in weights.items()}
                self.task.save_weights(plain, self.out / self.task.weights_file, facts)
        save_checkpoint(self.accelerator, self.out, self.step, self.recipe.keep)
        self._saved_step = self.step

    # The run

    def progress(self) -> float:
        """How far the schedule is, 0 to 1, by steps or by time, whichever is further."""
        by_time = self.seconds / (60 * self.recipe.minutes) if self.recipe.minutes else 0.0
        return min(1.0, max(self.step / self.recipe.steps, by_time))

    def run(self) -> None:
        """Train to the end of the schedule, or until SIGTERM or SIGINT; save either way.

        A run that was continued at its end is left as it is, or validated if it was killed before that.

        Raises:
            ValueError: the dataset does not fit the recipe.
            Diverged: what is on disk stays as it was, beside ``diverged.json``, which names the samples.
        """
        over = self.progress() >= 1
        if not over or (self.recipe.validate_every and not self.log.validated(self.step)):
            self.log.rewind(self.step)
            self._list_shards()
            if not over:
                self._write_facts()
            self.log.begin(asdict(self.recipe), self._read_facts().get("run", ""), self.step)
            dev = []
            if self.recipe.validate_every:
                size, count = self.recipe.size, self.recipe.validation_crops
                dev = validation_batches(self.data, size, count, self.micro, self.shards)
            with self._stoppable():
                if not over:
                    self._train(dev)
                if dev and self.progress() >= 1 and not self.stopping:
                    self._validate(dev)
        self.accelerator.end_training()

    def _list_shards(self) -> None:
        """The dataset as it is when the run begins: one that grows would change what is drawn later.

        Another dataset's shards have the same names; a run that goes on with it takes all that it has.
        """
        facts = self._read_facts() if self.step else {}
        kept = facts.get("shards") if facts.get("data") == absolute(self.data) else None
        self.shards = broadcast_object_list([kept or shard_files(self.data)])[0]

    def _write_facts(self) -> None:
        """What the run was started with, and each start before: what a model card is made from."""
        if self.accelerator.is_main_process:
            facts = {
                "recipe": asdict(with_absolute_places(self.recipe)),
                "data": absolute(self.data),
                "shards": self.shards,
            }
            before = self._read_facts() if self.step else {}
            starts = [*before.get("starts", []), {**provenance(), **facts, "step": self.step}]
            facts = {**facts, "run": before.get("run", uuid4().hex), "starts": starts}
            text = json.dumps(facts, indent=1, ensure_ascii=False)
            write_atomically(self.out / RUN_FILE, text.encode())

    def _read_facts(self) -> dict[str, Any]:
        """What the last start wrote; empty if there was none."""
        path = self.out / RUN_FILE
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _train(self, dev: list[Batch]) -> None:
        """Train and save, to the end of the schedule or until the run is stopped."""
        recipe = self.recipe
        stream, large = self._stream()
        self._clock = time.monotonic()
        saved, logged, since = self.seconds, self.step, self.seconds
        while self.progress() < 1 and not self.stopping:
            if not large and self._is_large():
                stream, large = self._stream()
            with suppress(_Stopped):
                self.unlogged.append(self._step(stream))
            last = self.progress() >= 1
            if self.step > logged and (self.step % recipe.log_every == 0 or last or self.stopping):
                rate = recipe.batch * (self.step - logged) / max(self.seconds - since, 1e-9)
                memory = peak_bytes(self.accelerator.device) / 1e9
                self._record(rate=round(rate, 2), memory_gb=round(memory, 2), **means(self.unlogged))
                self.unlogged = []
                logged, since = self.step, self.seconds
            if self.stopping or last:  # the last step is validated when it is saved
                break
            if dev and self.step % recipe.validate_every == 0:
                self._validate(dev)
                self._clock = time.monotonic()  # looking is not training
            if self.seconds - saved > 60 * recipe.checkpoint_minutes:
                self.save()
                saved, self._clock = self.seconds, time.monotonic()
        if self.step > self._saved_step:
            self.save()

    def _step(self, stream: Iterator[Batch]) -> dict[str, float]:
        """One optimiser step; returns the means of the loss and its terms over all its samples.

        Raises:
            _Stopped: between two of its micro-batches, of which there may be more than whoever asks to stop
                will wait for. The step is none then: its samples follow from its number, and come again.
        """
        rate = learning_rate(self.recipe, self.step, self.progress())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        seen: list[tuple[int, str]] = []
        parts: list[dict[str, float]] = []
        norm = math.nan
        for _ in range(self.accelerator.gradient_accumulation_steps):
            if self.stopping:
                self.model.zero_grad()
                raise _Stopped
            batch = next(stream).to(self.accelerator.device)
            names = list(zip(batch.numbers, batch.pairs, strict=True))
            seen += names
            with self.accelerator.accumulate(self.model):
                losses = self.model(batch)
                parts.append(self._agree(losses))
                if not math.isfinite(parts[-1]["loss"]):  # its gradient would be worse than none
                    self._diverge(parts[-1]["loss"], norm, names)
                self.accelerator.backward(losses["loss"])
                if self.accelerator.sync_gradients:
                    norm = float(self.accelerator.clip_grad_norm_(self.trained, self.recipe.clip))
                    terms = {name: fmean(part[name] for part in parts) for name in losses}
                    limit = self.recipe.explode * self.usual_loss if self.step > SETTLED else math.inf
                    if not math.isfinite(norm) or abs(terms["loss"]) > limit:
                        self._diverge(terms["loss"], norm, seen)
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.average.step()
        self.step += 1
        decay = min(0.98, self.step / (self.step + 1))
        self.usual_loss = decay * self.usual_loss + (1 - decay) * abs(terms["loss"])
        return {**terms, "gradient": norm, "learning_rate": rate}

    def _agree(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Mean terms over all processes, which also agree on the time and on whether to stop."""
        now = time.monotonic()
        clock = torch.tensor([now - self._clock, float(self._asked_to_stop)])
        self._clock = now
        terms = torch.stack([value.detach().float() for value in losses.values()])
        values = torch.cat((terms, clock.to(terms.device)))
        *agreed, elapsed, stop = self.accelerator.reduce(values, "mean").tolist()
        self.seconds, self.stopping = self.seconds + elapsed, stop > 0
        return dict(zip(losses, agreed, strict=True))

    def _diverge(self, loss: float, norm: float, names: list[tuple[int, str]]) -> NoReturn:
        """Name the samples, then stop."""
        everywhere = gather_object(names)
        if self.accelerator.is_main_process:
            record = {"step": self.step, "loss": str(loss), "gradient": str(norm)}
            samples = [{"number": number, "pair": pair} for number, pair in everywhere]
            text = json.dumps({**record, "samples": samples}, indent=1, ensure_ascii=False)
            write_atomically(self.out / DIVERGED_FILE, text.encode())
        raise Diverged(
            f"the loss is {loss:.4g} and its gradient's norm {norm:.4g} at step {self.step}; usual is a loss "
            f"of {self.usual_loss:.4g}; the samples are named in {self.out / DIVERGED_FILE}"
        )

    def _validate(self, dev: list[Batch]) -> None:
        self.model.eval()
        with suppress(_Stopped), self.average.in_place(), torch.inference_mode():
            going_on = self._until_stopped(dev)
            scores, picture = validate(lambda batch: self.model(batch, sample=True), going_on)
        self.model.train()
        if self.stopping:
            return
        self._record(**{f"dev_{name}": round(value, 3) for name, value in scores.items()})
        if self.accelerator.is_main_process:
            picture.save(self.out / f"dev-{self.step:06d}.png")
            self.log.show(picture, self.step)

    def _until_stopped(self, dev: list[Batch]) -> Iterator[Batch]:
        """The batches on the device, as long as no process is asked to stop."""
        for batch in dev:
            asked = torch.tensor(float(self._asked_to_stop), device=self.accelerator.device)
            self.stopping = self.accelerator.reduce(asked, "sum").item() > 0
            if self.stopping:
                raise _Stopped
            yield batch.to(self.accelerator.device)

    def _record(self, **values: float) -> None:
        progress = round(self.progress(), 4)
        self.log.write({"step": self.step, "seconds": round(self.seconds, 1), "progress": progress, **values})

    def _is_large(self) -> bool:
        return bool(self.recipe.large_size) and self.progress() >= self.recipe.large_from

    def _stream(self) -> tuple[Iterator[Batch], bool]:
        """Micro-batches from where the run is, and whether they are large."""
        recipe, large = self.recipe, self._is_large()
        share = Share(
            self.step * recipe.batch,
            recipe.steps * recipe.batch,
            self.micro,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        size = recipe.large_size if large else recipe.size
        return batches(self.data, recipe, size, share, self.shards), large

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask the run to stop and save; Ray's workers are told otherwise."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            self._asked_to_stop = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def micro_batch(recipe: Recipe, processes: int) -> int:
    """Samples that a process takes at once.

    Raises:
        RecipeError: the batch does not divide.
    """
    micro = recipe.micro_batch or max(1, recipe.batch // processes)
    if recipe.batch % (micro * processes):
        raise RecipeError(
            f"a batch of {recipe.batch} does not divide into {processes} x micro-batches of {micro}"
        )
    return micro


def means(steps: Sequence[dict[str, float]]) -> dict[str, float]:
    """What the steps since the last record give on average, to five digits."""
    return {name: float(f"{fmean(step[name] for step in steps):.5g}") for name in steps[0]}


def learning_rate(recipe: Recipe, step: int, progress: float) -> float:
    """Linear warm-up, a plateau, and with "cosine" from 60 % of the run a cosine down to 1 %."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    if recipe.schedule == "constant":
        return recipe.learning_rate * warm
    down = max(0.0, (progress - 0.6) / 0.4)
    return recipe.learning_rate * warm * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * down)))


def parameter_groups(network: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices and kernels; leave norms and biases alone."""
    trained = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1]
    vectors = [p for p in trained if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
