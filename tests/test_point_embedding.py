"""Point maps hold the k-th pair as the value k; the pyramid is bias-free with the released names."""

from __future__ import annotations

import pytest
import torch

from lightningdrag.models.point_embedding import PointEmbedding, point_maps, separate_points


def points(*pairs: tuple[float, float]) -> torch.Tensor:
    return torch.tensor([pairs], dtype=torch.float32)


def test_kth_pair_writes_k_at_row_y_and_column_x():
    maps = point_maps(points((3, 1), (10, 5)), points((4, 2), (0, 0)), height=8, width=12)
    assert maps.shape == (1, 2, 8, 12)
    assert maps[0, 0, 1, 3] == 1
    assert maps[0, 0, 5, 10] == 2
    assert maps[0, 1, 2, 4] == 1
    assert maps[0, 1, 0, 0] == 2
    assert maps.count_nonzero() == 4


@pytest.mark.parametrize(("x", "column"), [(2.49, 2), (2.5, 3), (3.49, 3), (-0.4, 0), (11.4, 11)])
def test_points_round_to_the_nearest_pixel(x: float, column: int):
    maps = point_maps(points((x, 4)), points((x, 4)), 8, 12)
    assert maps[0, :, 4, column].tolist() == [1, 1]


def test_points_outside_the_map_are_left_out():
    maps = point_maps(points((12, 3), (-0.6, 3), (float("nan"), 3)), points((1, 1), (2, 2), (3, 3)), 8, 12)
    assert maps[0, 0].count_nonzero() == 0
    assert maps[0, 1].count_nonzero() == 3


def test_a_batch_is_padded_with_invalid_points():
    handles = torch.tensor([[[1, 1], [5, 5]], [[2, 2], [9, 9]]])
    valid = torch.tensor([[True, True], [True, False]])
    maps = point_maps(handles, handles, 16, 16, valid)
    assert maps[0, 0].count_nonzero() == 2
    assert maps[1, 0].count_nonzero() == 1
    assert maps[1, 0, 2, 2] == 1


def test_the_last_of_several_points_on_a_pixel_is_kept():
    maps = point_maps(points((1, 1), (1.2, 1.1)), points((3, 3), (4, 4)), 8, 8)
    assert maps[0, 0, 1, 1] == 2


def test_separated_points_keep_a_pixel_each_and_free_points_stay():
    crowded = torch.tensor([[0.2, 0.0], [5.0, 5.0], [0.0, 0.1], [0.0, 0.0]])
    apart = separate_points(crowded, 8, 8)
    assert apart[:2].tolist() == [[0, 0], [5, 5]]
    assert len({tuple(point) for point in apart.tolist()}) == 4
    assert (apart - crowded).abs().max() <= 1.2


def test_pyramid_has_the_released_parameters_and_shapes():
    model = PointEmbedding(16)
    names = {"conv_in.weight"} | {
        f"downsample_blocks_{part}.{block}.conv{conv}.weight"
        for part in ("vae", "unet")
        for block in range(3)
        for conv in (1, 2)
    }
    assert set(model.state_dict()) == names
    assert model.channels == [128, 256, 512, 1024]
    levels = PointEmbedding(1)(torch.zeros(2, 2, 128, 64))
    assert [tuple(handle.shape) for handle, _ in levels] == [
        (2, 8, 16, 8),
        (2, 16, 8, 4),
        (2, 32, 4, 2),
        (2, 64, 2, 1),
    ]
    assert [target.shape for _, target in levels] == [handle.shape for handle, _ in levels]


def test_empty_maps_embed_as_exactly_zero():
    for handle, target in PointEmbedding(1)(torch.zeros(1, 2, 64, 64)):
        assert handle.count_nonzero() == 0
        assert target.count_nonzero() == 0
