"""What an edit without a mask may change: what the model finds, in the ways that drags may be read."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from lightningdrag import Drag, DragEditor
from lightningdrag.masks import derive_mask
from lightningdrag.models.protocol import (
    DragInputs,
    Encoded,
    Followers,
)
from painters import Finder, noise


def test_without_a_mask_what_the_model_finds_may_change_and_no_more() -> None:
    pixels, drags = noise(200, 200), [((60, 100), (80, 100)), ((150, 30), (150, 30))]
    model = Finder()
    result = DragEditor(model).edit(pixels, drags, seed=0)
    assert model.rooms[0].all()
    assert result.mask[:, :98].all()
    assert not result.mask[:, 102:].any()
    assert np.array_equal(result.photos[0].pixels[:, 102:], pixels[:, 102:])
    assert result.request.mask is None
    assert np.array_equal(DragEditor(Finder()).run(pixels, result.request).image, result.image)


def test_a_session_looks_for_what_follows_once() -> None:
    model = Finder()
    session = DragEditor(model).open(noise(200, 200))
    drags = [((60, 100), (80, 100))]
    mask = session.mask_for(drags)
    for seed in (0, 1):
        assert np.array_equal(session.edit(drags, seed=seed).mask, mask)
    assert len(model.rooms) == 1
    session.edit([((60, 100), (81, 100))])
    session.accept()
    session.edit([((60, 100), (81, 100))])
    assert len(model.rooms) == 3


def test_what_goes_along_is_dragged_with_the_first_drag_and_is_not_in_the_request() -> None:
    model = Finder()
    result = DragEditor(model).edit(noise(200, 200), [((60, 100), (80, 100))], seed=0)
    first, other = (
        result.drags
    )  # of the others one would come from beyond the photo, one ends beyond the mask
    assert other.handle == pytest.approx((first.handle[0] - 48, 141), abs=1.5)
    assert other.target[0] - other.handle[0] == pytest.approx(20)
    assert other.target[1] == other.handle[1]
    assert len(model.inputs[0].handles) == 2
    assert result.request.drags == (first,)
    again = DragEditor(Finder()).edit(noise(200, 200), [((60, 100), (80, 100))], result.mask, seed=0)
    assert again.drags == (first,)


class Reader(Finder):
    """One that may mean the left half with companions, or the right half whole."""

    def followers(self, encoded: Encoded, inputs: DragInputs) -> list[Followers]:
        [left] = super().followers(encoded, inputs)
        readings = [left, Followers(~left.mask, torch.zeros(0, 2), ~left.mask)]
        return readings[: inputs.num_images]


@pytest.mark.parametrize("options", [{}, {"max_step": 9}])
def test_the_readings_of_drags_take_turns_with_the_candidates(options: dict[str, float]) -> None:
    """Each in its own mask, and the same however many there are."""
    pixels, drags = noise(200, 200), [((60, 100), (80, 100))]
    results, steps = {}, []
    for count in (1, 2, 3):
        model = Reader()
        seen: list[tuple[int, int]] = []
        tell = lambda step, total, seen=seen: seen.append((step, total))  # noqa: E731
        results[count] = DragEditor(model).edit(
            pixels, drags, num_images=count, seed=0, steps=2, callback=tell, **options
        )
        steps.append([step for step, _ in seen])
        assert {total for _, total in seen} == {len(seen)}
        whole = [inputs.thing is not None for inputs in model.inputs]
        assert whole == sorted(whole)
    assert all(each == list(range(1, len(each) + 1)) for each in steps)
    changed = [(photo.pixels != pixels).any((0, 2)) for photo in results[3].photos]
    for columns, left in zip(changed, (True, False, True), strict=True):
        assert columns[:50].any() == left
        assert columns[110:].any() != left
    for count in (1, 2):
        for one, other in zip(results[count].images, results[3].images, strict=False):
            assert np.array_equal(one, other)
    assert not results[1].mask[:, 110:].any()
    assert results[3].mask.all()
    session = DragEditor(Reader()).open(pixels)
    assert all(np.array_equal(session.mask_for(drags, count), results[count].mask) for count in (1, 2, 3))
    assert len({result.drags for result in results.values()}) == 1
    assert all(result.thing is None for result in results.values())


def test_a_result_tells_what_it_moves_whole_and_another_edit_can_be_told() -> None:
    class Whole(Reader):
        def followers(self, encoded: Encoded, inputs: DragInputs) -> list[Followers]:
            inputs = dataclasses.replace(inputs, num_images=2)
            return super().followers(encoded, inputs)[:0:-1]

    session = DragEditor(model := Whole()).open(noise(200, 200))
    result = session.edit([((160, 100), (180, 100))], seed=0)
    assert result.thing is not None
    assert 80 < np.flatnonzero(result.thing.all(0))[0] < 110
    part = dataclasses.replace(result.request, mask=result.mask)
    assert session.run(part).thing is None
    told = session.run(part, thing=result.thing).thing
    assert told is result.thing
    for mask, wrong in ((result.mask, result.thing[1:]), (None, result.thing)):
        with pytest.raises(ValueError, match=r"the photo's shape, \(200, 200\)"):
            session.run(dataclasses.replace(part, mask=mask), thing=wrong)
    first, other, again = (inputs.thing for inputs in model.inputs)
    assert first is not None
    assert again is not None
    assert other is None
    assert torch.equal(first, again)


@pytest.mark.parametrize("given", [np.eye(200, dtype=bool), None])
def test_a_model_is_not_asked_for_a_mask_that_is_given_or_where_nothing_moves(
    given: np.ndarray | None,
) -> None:
    model = Finder()
    to = (60, 60) if given is None else (80, 80)
    mask = DragEditor(model).edit(noise(200, 200), [((60, 60), to)], given).mask
    assert model.rooms == []
    assert np.array_equal(mask, derive_mask([Drag((60, 60), to)], 200, 200) if given is None else given)
