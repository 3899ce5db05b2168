"""Peak memory of one call."""

from __future__ import annotations

from pathlib import Path

import torch

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class PeakMemory:
    """The most memory in use since :meth:`reset`: the GPU's allocations, else the whole process's.

    On a CPU that includes the interpreter, the libraries and the model, and Linux alone can say it.
    """

    def reset(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        elif _CLEAR.exists():
            _CLEAR.write_text("5")

    def megabytes(self) -> float:
        """NaN where the system does not say."""
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated() / 1e6
        if not _STATUS.exists():
            return float("nan")
        line = next(x for x in _STATUS.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
