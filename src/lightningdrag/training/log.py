"""What a run tells while it runs: log.jsonl, TensorBoard or W&B, pictures, and whoever listens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image

from lightningdrag.files import write_atomically

LOG_FILE = "log.jsonl"
Record = dict[str, Any]
Report = Callable[[Record], None]


class RunLog:
    """The main process's log; the other processes' calls do nothing.

    Args:
        out: the run's folder.
        report: called with each record.
    """

    def __init__(self, accelerator: Accelerator, out: Path, report: Report) -> None:
        self.accelerator, self.report = accelerator, report
        self.path = out / LOG_FILE

    def begin(self, config: Mapping[str, Any], run: str, step: int) -> None:
        """Open the trackers: TensorBoard forgets what lies behind ``step``, W&B goes on with the same run.

        Args:
            config: the recipe's fields; TensorBoard takes numbers and text alone.
            run: a name that no other run has.
        """
        wandb = {"dir": str(self.path.parent), "id": run, "resume": "allow"}
        self.accelerator.init_trackers(
            "lightningdrag",
            config={k: v if isinstance(v, (int, float, str)) else json.dumps(v) for k, v in config.items()},
            init_kwargs={"wandb": wandb, "tensorboard": {"purge_step": step + 1}},
        )

    def rewind(self, step: int) -> None:
        """Forget what was logged behind ``step``: a resumed run comes by again."""
        if self.accelerator.is_main_process and self.path.exists():
            kept = [record for record in read_log(self.path) if record["step"] <= step]
            write_atomically(self.path, "".join(json.dumps(r) + "\n" for r in kept).encode())

    def validated(self, step: int) -> bool:
        """Whether the dev metrics of a step are there."""
        return any(r["step"] == step and "dev_model" in r for r in read_log(self.path))

    def write(self, record: Record) -> None:
        """Log a record with its ``step``."""
        self.accelerator.log({k: v for k, v in record.items() if k != "step"}, step=record["step"])
        if self.accelerator.is_main_process:
            with self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")
            self.report(record)

    def show(self, picture: Image.Image, step: int) -> None:
        """Hand a picture to the trackers."""
        pixels = np.asarray(picture)[None]
        for tracker in self.accelerator.trackers:
            options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"dev": pixels}, step=step, **options)


def read_log(path: Path) -> list[Record]:
    """The records of a log, none if there is no log; a last line that a kill cut off is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
