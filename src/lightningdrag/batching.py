"""Several edits at once: what they ask their model at the same time is answered in one pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from lightningdrag.models.protocol import BatchModel, Call, DragModel, MotionEdit, PaintedEdit, batch_key

Result = TypeVar("Result")
Answer = PaintedEdit | MotionEdit


def in_step(model: DragModel, edits: Sequence[Generator[Call, Any, Result]], batch: int = 1) -> list[Result]:
    """Lead edits to their ends.

    Args:
        edits: each asks the model again and again, is sent its answers, and returns its result.
        batch: at most this many calls are answered in one pass.

    Raises:
        ValueError: ``batch`` is below 1.
        Exception: whatever an edit or the model raises; it ends all edits.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be 1 or more")
    results: dict[int, Result] = {}
    answers: dict[int, Answer | None] = dict.fromkeys(range(len(edits)))
    while answers:
        calls = {}
        for index, answer in answers.items():
            try:
                calls[index] = edits[index].send(answer)
            except StopIteration as end:
                results[index] = end.value
        answers = dict(_answers(model, calls, batch))
    return [results[index] for index in range(len(edits))]


def _answers(model: DragModel, calls: Mapping[int, Call], batch: int) -> Iterator[tuple[int, Answer]]:
    """An answer to each call, by its index."""
    alike: defaultdict[Hashable, list[int]] = defaultdict(list)
    for index, (encoded, inputs, _) in calls.items():
        alike[batch_key(encoded, inputs)].append(index)
    for indices in alike.values():
        for start in range(0, len(indices), batch):
            part = indices[start : start + batch]
            if len(part) > 1 and isinstance(model, BatchModel):
                yield from zip(part, model.generate_batch([calls[index] for index in part]), strict=True)
            else:
                yield from ((index, model.generate(*calls[index])) for index in part)
