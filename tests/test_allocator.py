"""Freed memory is kept for the next allocation within ``kept_memory``, and given back at its end."""

from __future__ import annotations

import resource
import sys

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


def test_a_second_array_takes_the_pages_of_the_first():
    outside = page_faults()
    with kept_memory():
        within = page_faults()
    assert within < outside / 10
    assert page_faults() > outside / 2


def test_the_outermost_use_ends_it():
    outside = page_faults()
    with kept_memory():
        with kept_memory():
            pass
        assert page_faults() < outside / 10
    with pytest.raises(ValueError, match="inside"), kept_memory():
        raise ValueError("inside")
    assert page_faults() > outside / 2


def test_afterwards_arrays_of_a_few_megabytes_are_made_of_freed_pages_as_in_any_program():
    with kept_memory():
        pass
    assert page_faults(MIDDLING) < MIDDLING / resource.getpagesize() / 10
