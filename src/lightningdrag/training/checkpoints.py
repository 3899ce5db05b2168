"""Checkpoints of a run: whole folders, the last few of them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from accelerate import Accelerator

FOLDER = "checkpoints"


def save_checkpoint(accelerator: Accelerator, out: Path, step: int, keep: int) -> None:
    """Write everything that accelerate knows of beside, then rename; drop all but the last ``keep``.

    Whatever kills a run, a folder that bears a step's name is whole.
    """
    final = out / FOLDER / f"step-{step:08d}"
    partial = final.with_suffix(".partial")
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)  # a run that was rewound comes by again
        partial.rename(final)
        for old in list_checkpoints(out)[:-keep]:
            shutil.rmtree(old)
        for left in final.parent.glob("*.partial"):
            shutil.rmtree(left)
    accelerator.wait_for_everyone()


def list_checkpoints(out: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    found = (out / FOLDER).glob("step-*")
    return sorted(path for path in found if re.fullmatch(r"step-\d{8}", path.name))
