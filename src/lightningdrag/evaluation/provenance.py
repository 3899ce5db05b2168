"""Where a number comes from: the machine, the commit and the command that made it."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch


def provenance() -> dict[str, str]:
    """``command``, ``commit`` ("unknown" outside a checkout), ``machine``, ``torch`` and ``package``."""
    from importlib.metadata import version

    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {
        "command": command,
        "commit": _commit(),
        "machine": _machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightningdrag": version("lightningdrag"),
    }


def _commit() -> str:
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        # A package installed into a folder of somebody's repository is not of that repository's commit.
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, check=True)
        commit = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with changes" if changed else commit


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    models = (
        [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if cpuinfo.exists()
        else []
    )
    name = models[0] if models else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    accelerator = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {cores} cores, {torch.get_num_threads()} torch threads{accelerator}"
