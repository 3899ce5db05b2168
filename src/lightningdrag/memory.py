"""Memory: the peak of a process or a GPU, and errors that say that there was too little.

Commands import this before they know that they need torch.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak(device: torch.device) -> None:
    """Forget the peak so far, where the system can; elsewhere the peak is the process's own, ever."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")  # Linux: sets VmHWM back to what is resident now


def peak_bytes(device: torch.device) -> int:
    """The most memory held since :func:`reset_peak`: the device's on a GPU, else the process's."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    if _STATUS.exists():
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource  # which Windows does not have

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def is_out_of_memory(error: Exception) -> bool:
    """Is this Python's, numpy's, torch's (on GPUs; on the CPU), OpenCV's or the system's way to say it?"""
    said = ("out of memory", "DefaultCPUAllocator", "Insufficient memory", "Cannot allocate memory")
    return isinstance(error, MemoryError) or any(words in str(error) for words in said)
