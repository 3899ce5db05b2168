"""Freed memory is kept for the next allocation within ``kept_memory``, and given back at its end.

Each in a process of its own: what other tests left in the heap may serve as well as what was kept.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable

import numpy as np
import pytest

from lightningdrag.allocator import kept_memory

LARGE, MIDDLING = 2**26, 3 * 2**20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told what to keep")


def page_faults(size: int = LARGE) -> int:
    """Pages that a second array has to get from the system."""
    np.ones(size, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(size, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def a_second_array_takes_the_pages_of_the_first() -> None:
    outside = page_faults()
    with kept_memory():
        within = page_faults()
    assert within < outside / 10
    assert page_faults() > outside / 2


def the_outermost_use_ends_it() -> None:
    outside = page_faults()
    with kept_memory():
        with kept_memory():
            pass
        assert page_faults() < outside / 10
    with pytest.raises(ValueError, match="inside"), kept_memory():
        raise ValueError("inside")
    assert page_faults() > outside / 2


def afterwards_arrays_of_a_few_megabytes_are_made_of_freed_pages_as_in_any_program() -> None:
    with kept_memory():
        pass
    assert page_faults(MIDDLING) < MIDDLING / resource.getpagesize() / 10


@pytest.mark.parametrize(
    "claim",
    [
        a_second_array_takes_the_pages_of_the_first,
        the_outermost_use_ends_it,
        afterwards_arrays_of_a_few_megabytes_are_made_of_freed_pages_as_in_any_program,
    ],
)
def test_in_a_process_of_its_own(claim: Callable[[], None]) -> None:
    process = multiprocessing.get_context("spawn").Process(target=claim)
    process.start()
    process.join(60)
    assert process.exitcode == 0
