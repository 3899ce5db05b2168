"""The analytic field and warping by it, backward and forward."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightningdrag.models.protocol import DragInputs
from lightningdrag.models.warp import WarpModel
from lightningdrag.warp import (
    drag_displacement,
    forward_warp,
    pixel_grid,
    rim_anchors,
    sample,
    similarity_displacement,
    uncovered,
)

SIZE = 48


def disc(radius: float = 20) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    return (x - 24) ** 2 + (y - 24) ** 2 < radius**2


def field(handle: tuple[float, float], target: tuple[float, float], stride: int = 1) -> torch.Tensor:
    mask = disc()
    return drag_displacement(
        torch.tensor([[handle]], dtype=torch.float32),
        torch.tensor([[target]], dtype=torch.float32),
        torch.from_numpy(rim_anchors(mask))[None],
        torch.from_numpy(mask)[None, None],
        stride=stride,
    )


inner = st.integers(16, 32)


@settings(max_examples=30, deadline=None)
@given(inner, inner, inner, inner)
def test_a_target_shows_its_handle_and_nothing_moves_outside_the_mask(
    hx: int, hy: int, tx: int, ty: int
) -> None:
    moved = field((hx, hy), (tx, ty))
    assert torch.allclose(moved[0, :, ty, tx], torch.tensor([hx - tx, hy - ty]).float(), atol=1e-2)
    assert (moved[0, :, ~torch.from_numpy(disc())] == 0).all()
    assert moved.norm(dim=1).max() <= np.hypot(hx - tx, hy - ty) + 1e-3  # a mean is no longer than its terms


def test_a_coarse_field_agrees_with_the_fine_one() -> None:
    fine, coarse = field((20, 24), (28, 24)), field((20, 24), (28, 24), stride=4)
    assert coarse.shape == (1, 2, 12, 12)
    pooled = torch.nn.functional.avg_pool2d(fine, 4)
    assert (pooled - coarse).abs().mean() < 0.15


def similarity(points: list[tuple[float, float]], stiffness: float, weights: object = 1.0) -> torch.Tensor:
    """The field of a turn by 0.5 and growth by 1.3, known at some points, less what it is everywhere."""
    at = torch.tensor([points], dtype=torch.float32)
    grid = pixel_grid(SIZE, SIZE, 4)
    factor = torch.polar(torch.tensor(1.3), torch.tensor(0.5)) - 1

    def moved(places: torch.Tensor) -> torch.Tensor:
        return torch.view_as_real(factor * torch.view_as_complex(places.contiguous()) + 5)

    given = torch.ones(1, len(points)) * torch.as_tensor(weights)
    return similarity_displacement(at, moved(at), given, grid, stiffness) - moved(grid).permute(2, 0, 1)


def test_drags_of_a_turn_and_a_zoom_move_everything_by_them() -> None:
    assert similarity([(5, 5), (40, 12), (20, 33)], stiffness=0).abs().max() < 1e-2
    assert similarity([(5, 5), (40, 12), (1, 1)], 0, [1.0, 1.0, 0.0]).abs().max() < 1e-2  # one left out


def test_drags_side_by_side_do_not_tell_of_a_turn() -> None:
    at = torch.tensor([[[20.0, 20.0], [21.0, 20.0]]])
    by = torch.tensor([[[4.0, 0.0], [4.0, 1.0]]])  # a turn by 45 degrees, if one believed it
    moved = similarity_displacement(at, by, torch.ones(1, 2), pixel_grid(SIZE, SIZE, 4), stiffness=5)
    assert (moved - torch.tensor([4.0, 0.5])[:, None, None]).abs().max() < 1.5


def test_one_drag_moves_everything_alike_and_none_nothing() -> None:
    at, by = torch.tensor([[[20.0, 20.0]]]), torch.tensor([[[4.0, -3.0]]])
    grid = pixel_grid(SIZE, SIZE, 4)
    alike = similarity_displacement(at, by, torch.ones(1, 1), grid, stiffness=5)
    torch.testing.assert_close(alike, by[0, 0, :, None, None].expand(1, 2, *grid.shape[:2]))
    assert (similarity_displacement(at, by, torch.zeros(1, 1), grid, stiffness=5) == 0).all()


def test_sampling_without_displacement_is_the_identity() -> None:
    image = torch.rand(1, 3, 20, 30)
    assert torch.allclose(sample(image, torch.zeros(1, 2, 20, 30)), image, atol=1e-5)


def test_sampling_a_shift_and_sending_its_opposite_agree() -> None:
    image = torch.rand(1, 3, 20, 30)
    shift = torch.zeros(1, 2, 20, 30)
    shift[:, 0] = -3  # every pixel shows what stood three to its left
    sent, coverage = forward_warp(image, -shift)
    assert torch.allclose(sample(image, shift)[..., 3:], image[..., :-3], atol=1e-5)
    assert torch.allclose(sent[..., 3:], image[..., :-3], atol=1e-5)
    assert (coverage[..., :3] == 0).all()
    assert torch.allclose(coverage[..., 3:], torch.ones(()))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 4))
def test_what_is_sent_forward_is_neither_lost_nor_made(seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    displacement = (torch.rand(1, 2, 24, 24, generator=generator) - 0.5) * size
    displacement[..., :4, :] = displacement[..., -4:, :] = 0  # stay within the image
    displacement[..., :, :4] = displacement[..., :, -4:] = 0
    image = torch.rand(1, 1, 24, 24, generator=generator)
    warped, coverage = forward_warp(image, displacement)
    assert torch.allclose(coverage.sum(), torch.tensor(24.0 * 24), atol=1e-2)
    assert torch.allclose((warped * coverage).sum(), image.sum(), atol=1e-2)


def test_a_part_that_moves_away_lays_bare_where_it_stood() -> None:
    displacement = torch.zeros(1, 2, 24, 24)
    displacement[:, 0, 8:16, 4:12] = 8
    bare = uncovered(displacement)[0, 0]
    assert bare[8:16, 4:12].all()
    assert bare.sum() == 64


def test_the_forward_field_of_drags_takes_the_handle_to_the_target() -> None:
    forward = field((28, 24), (20, 24))  # exchanged: a forward field for 20 -> 28
    assert torch.allclose(forward[0, :, 24, 20], torch.tensor([8.0, 0.0]), atol=1e-2)


def test_the_warp_model_answers_every_candidate_alike() -> None:
    mask = torch.from_numpy(disc())
    inputs = DragInputs(torch.tensor([[20.0, 24]]), torch.tensor([[28.0, 24]]), mask, num_images=3)
    model = WarpModel()
    answer = model.generate(model.encode(torch.zeros(1, 3, SIZE, SIZE)), inputs, torch.Generator())
    assert answer.displacement.shape == (3, 2, SIZE, SIZE)
    assert torch.equal(answer.displacement[0], answer.displacement[2])
    assert torch.equal(answer.displacement[:1], field((20, 24), (28, 24)))
    assert (answer.visibility == 1).all()
