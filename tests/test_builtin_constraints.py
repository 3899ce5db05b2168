"""What the user said holds, whatever a network predicts."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from lightningdrag.checkpoints.builtin import load_builtin
from lightningdrag.models.builtin.constraints import (
    AGREE,
    CALM,
    FINE_HOLD,
    HOLD,
    agreed,
    agreed_fills,
    calmed,
    held,
    seen,
)
from lightningdrag.models.builtin.evidence import DragBatch
from lightningdrag.models.protocol import DragInputs
from lightningdrag.warp import pixel_grid

SIDE = 128
HANDLES = torch.tensor([[40.0, 40.0], [44.0, 40.0], [90.0, 80.0]])
TARGETS = torch.tensor([[40.0, 52.0], [44.0, 34.0], [90.0, 80.0]])


def batch(valid: tuple[float, ...] = (1, 1, 1)) -> DragBatch:
    """A mouth opened by two drags that part, and a pin."""
    return DragBatch(
        torch.zeros(1, 3, SIDE, SIDE),
        torch.ones(1, 1, SIDE, SIDE),
        HANDLES[None],
        TARGETS[None],
        torch.tensor([valid]),
        torch.zeros(1, 1, 2),
    )


def at_targets(displacement: Tensor) -> Tensor:
    """``(2, h, w)`` at the targets' nearest pixels, ``(N, 2)``."""
    stride = SIDE // displacement.shape[-1]
    column, row = (TARGETS / stride).long().T
    return displacement[:, row, column].T


@pytest.mark.parametrize("reach", [HOLD, FINE_HOLD])
def test_every_target_shows_its_handle_even_where_drags_part(reach: float) -> None:
    wrong = 20 * torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    wrong = torch.nn.functional.interpolate(wrong, size=(SIDE, SIDE), mode="bicubic")
    exact = held(wrong, batch(), 1, reach)
    error, before = ((at_targets(field[0]) - (HANDLES - TARGETS)).abs().mean() for field in (exact, wrong))
    assert error < 0.2 * before


def test_half_precision_does_not_overflow_where_a_target_lies_on_a_cell() -> None:
    on_a_cell = torch.tensor([[[43.5, 51.5], [44.0, 34.0], [90.0, 80.0]]])  # its 1 / distance^3 is 1e6
    close = dataclasses.replace(batch(), targets=on_a_cell)
    wrong = torch.full((1, 2, SIDE // 8, SIDE // 8), 3.0)
    exact = held(wrong, close, 1, HOLD)
    with torch.autocast("cpu", torch.float16):
        half = held(wrong, close, 1, HOLD)
    torch.testing.assert_close(half.float(), exact)


def test_at_the_windows_rim_a_displacement_is_read_as_it_goes_on_evenly() -> None:
    corners = torch.tensor([[[0.0, 0.0], [SIDE - 1.0, SIDE - 1.0], [90.0, 80.0]]])
    at_the_rim = dataclasses.replace(batch(), targets=corners, handles=corners + 5)
    right = torch.full((1, 2, SIDE // 8, SIDE // 8), 5.0)
    torch.testing.assert_close(held(right, at_the_rim, 1, HOLD), right)


def test_handles_are_visible_at_their_targets_and_pins_at_their_places() -> None:
    hidden = torch.full((1, 1, SIDE, SIDE), -6.0)
    logits = seen(hidden, batch(valid=(1, 0, 1)))
    first, second, pin = at_targets(logits[0])[:, 0]
    assert min(first, pin) > -2
    assert second < -2  # it is no drag of this edit, and far from the first
    assert logits[0, 0, 100, 10] == -6
    assert torch.equal(seen(-hidden, batch()), -hidden)


def test_far_from_all_targets_the_prediction_stands() -> None:
    predicted = torch.full((1, 2, SIDE, SIDE), 5.0)
    far = (pixel_grid(SIDE, SIDE)[:, :, None] - TARGETS).norm(dim=-1).amin(-1) > 5 * FINE_HOLD * SIDE
    assert torch.allclose(held(predicted, batch(), 1, FINE_HOLD)[0, :, far], torch.tensor(5.0), atol=0.01)


def test_a_motion_may_be_in_units_of_its_longest_drag() -> None:
    predicted = torch.zeros(1, 2, SIDE // 8, SIDE // 8)
    in_pixels = held(predicted, batch(), 1, HOLD)
    in_lengths = held(predicted, batch(), torch.full((1, 1, 1, 1), 12.0), HOLD)
    assert torch.allclose(12 * in_lengths, in_pixels, atol=1e-4)


def test_points_that_only_pad_a_batch_hold_nothing() -> None:
    predicted = torch.ones(1, 2, SIDE, SIDE)
    assert torch.equal(held(predicted, batch((0, 0, 0)), 1, HOLD), predicted)


def test_noise_fades_around_targets_alone() -> None:
    noise = calmed(torch.ones(1, 3, SIDE // 8, SIDE // 8), batch())[0, 0]
    column, row = (TARGETS / 8).long().T
    assert noise[row, column].max() < 0.1
    far = (pixel_grid(SIDE, SIDE, 8)[:, :, None] - TARGETS).norm(dim=-1).amin(-1) > 3 * CALM * SIDE
    assert (noise[far] > 0.98).all()


def test_candidates_of_one_edit_agree_at_its_targets_alone() -> None:
    edits = DragBatch(*(torch.cat([x] * 5) for x in vars(batch()).values()))
    each = torch.arange(5.0)[:, None, None, None].expand(5, 1, SIDE, SIDE)
    shown = agreed(each, (2, 3), edits)  # two edits that are made together
    there = torch.stack([at_targets(x)[:, 0] for x in shown])
    assert torch.allclose(there, torch.tensor([0.0, 0, 2, 2, 2])[:, None].expand(5, 3), atol=0.1)
    far = (pixel_grid(SIDE, SIDE)[:, :, None] - TARGETS).norm(dim=-1).amin(-1) > 5 * AGREE * SIDE
    assert torch.allclose(shown[:, 0, far], each[:, 0, far], atol=0.01)


def test_at_the_targets_a_fill_is_the_first_candidates_whole_where_that_has_one() -> None:
    colour = torch.arange(3.0)[:, None, None, None].expand(3, 3, SIDE, SIDE)
    origin = colour[:, :2] + 5
    origin[0, :, :60] = 0  # above, the first candidate has no fill
    edits = [batch() for _ in range(3)]
    three = DragBatch(*(torch.cat([getattr(b, f.name) for b in edits]) for f in dataclasses.fields(edits[0])))
    fill, places = agreed_fills(colour, origin, [3], three)
    assert set(fill.unique().tolist()) == {0.0, 1.0, 2.0}, "never a mean"
    pin = (80, 90)
    assert (fill[(..., *pin)] == 0).all()
    assert (places[(..., *pin)] == 5).all()
    target = (52, 40)
    assert (fill[(2, ..., *target)] == 2).all()
    assert (places[(2, ..., *target)] == 7).all()
    assert (fill[2, :, 100:, :30] == 2).all()
    assert agreed_fills(colour, origin, [1, 1, 1], three)[0] is colour


def test_all_candidates_of_the_shipped_model_take_a_handle_to_its_target() -> None:
    model = load_builtin()
    window = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.ones(SIDE, SIDE, dtype=torch.bool)
    inputs = DragInputs(HANDLES, TARGETS, mask, num_images=3)
    edit = model.generate(model.encode(window), inputs, torch.Generator().manual_seed(0))
    for displacement in edit.displacement:
        assert (at_targets(displacement) - (HANDLES - TARGETS)).abs().max() < 1
    for colour in edit.colour:
        assert (at_targets(colour) - at_targets(edit.colour[0])).abs().max() < 0.05
    assert not torch.allclose(edit.displacement[0], edit.displacement[1], atol=0.5)
