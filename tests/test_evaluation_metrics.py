"""The measures against a true second frame agree with hand-computed and library values."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from lightningdrag.evaluation import metrics

HEIGHT, WIDTH = 96, 128
EVERYWHERE = np.ones((HEIGHT, WIDTH), bool)


def texture(seed: int, height: int = HEIGHT, width: int = WIDTH, blur: float = 1.5) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), blur)
    return np.clip(128 + 50 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def shifted(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)


def part() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20:70, 30:100] = True
    return mask


# PSNR ------------------------------------------------------------------------------------------


def test_psnr_of_a_constant_error_is_known() -> None:
    truth = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    assert metrics.psnr(truth + 5, truth, part()) == pytest.approx(20 * np.log10(255 / 5))


def test_psnr_counts_only_the_mask() -> None:
    truth, mask = texture(0), part()
    result = np.where(mask[..., None], truth, 0).astype(np.uint8)
    assert metrics.psnr(result, truth, mask) == float("inf")
    assert np.isfinite(metrics.psnr(result, truth, ~mask))


# SSIM ------------------------------------------------------------------------------------------


def test_ssim_matches_its_definition_at_a_pixel() -> None:
    """At one pixel, with the 11x11 Gaussian written out."""
    x, y = metrics.grey(texture(1)).astype(float), metrics.grey(texture(2)).astype(float)
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    a, b = x[35:46, 55:66], y[35:46, 55:66]
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
    covariance = (window * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    expected /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    pixel = np.zeros((HEIGHT, WIDTH), bool)
    pixel[40, 60] = True
    assert metrics.ssim(texture(1), texture(2), pixel) == pytest.approx(expected, abs=1e-6)


def test_ssim_matches_scikit_image() -> None:
    truth = texture(3)
    result = cv2.GaussianBlur(truth, (0, 0), 1.2)
    _, ssim_map = structural_similarity(
        metrics.grey(result).astype(np.float64),
        metrics.grey(truth).astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        full=True,
    )
    assert metrics.ssim(result, truth, part()) == pytest.approx(ssim_map[part()].mean(), abs=1e-6)


def test_ssim_of_an_image_with_itself_is_one() -> None:
    assert metrics.ssim(texture(4), texture(4), part()) == pytest.approx(1)


# Sharpness -------------------------------------------------------------------------------------


def test_halving_the_contrast_halves_the_sharpness() -> None:
    truth = (texture(5) // 2) * 2
    result = (truth // 2 + 64).astype(np.uint8)
    assert metrics.sharpness(result, truth, part()) == pytest.approx(0.5, abs=1e-3)


def test_a_blurred_result_is_less_sharp_and_a_flat_truth_defines_nothing() -> None:
    truth = texture(6)
    assert metrics.sharpness(cv2.GaussianBlur(truth, (0, 0), 2), truth, part()) < 0.6
    assert np.isnan(metrics.sharpness(truth, np.zeros_like(truth), part()))


# Doubles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_ghost_is_the_share_of_the_source_in_a_mixture(share: float) -> None:
    source, truth = texture(7), texture(8)
    result = np.rint(share * source.astype(float) + (1 - share) * truth).astype(np.uint8)
    double = metrics.doubles(result, source, truth, part())
    assert double.ghost == pytest.approx(share, abs=0.01)
    assert double.half_transparent == (1 if share == 0.5 else 0)


def test_an_unrelated_result_is_no_half_transparent_double() -> None:
    """c can fall anywhere by chance, but the mixture does not explain such a result."""
    double = metrics.doubles(texture(9), texture(10), texture(11), part())
    assert double.half_transparent == 0


def test_windows_that_hardly_differ_are_not_judged() -> None:
    source = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    just_below, above = source + 15, source + 16
    assert np.isnan(metrics.doubles(source, source, just_below, part()).ghost)
    assert metrics.doubles(source, source, above, part()).ghost == 1


def test_only_windows_inside_the_mask_are_judged() -> None:
    """Of an 11x11 mask nine windows lie inside; a 9x9 mask at the border of the image holds one."""
    source, truth = texture(12), texture(13)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20:31, 20:31] = True
    result = source.copy()
    result[20:31, 20:31] = truth[20:31, 20:31]
    assert metrics.doubles(result, source, truth, mask).ghost == pytest.approx(0, abs=1e-6)
    corner = np.zeros((HEIGHT, WIDTH), bool)
    corner[:9, :9] = True
    assert metrics.doubles(source, source, truth, corner).ghost == pytest.approx(1)
    corner[8, 8] = False
    assert np.isnan(metrics.doubles(source, source, truth, corner).ghost)


# Point error -----------------------------------------------------------------------------------

HANDLES = np.array([[40.0, 40.0], [80.3, 51.6]], np.float32)


@pytest.mark.parametrize("drag", [(9.0, -4.0), (7.5, 3.25)])
def test_a_shifted_image_has_its_points_at_their_targets(drag: tuple[float, float]) -> None:
    source = texture(14, blur=3)
    result = shifted(source, *drag)
    errors = metrics.point_errors(source, result, HANDLES, HANDLES + np.float32(drag))
    assert errors.drags * np.hypot(*drag) < 0.15
    assert np.isnan(errors.pins)


def test_doing_nothing_leaves_the_whole_drag_as_error() -> None:
    source = texture(15)
    errors = metrics.point_errors(source, source, HANDLES, HANDLES + np.float32([8, 6]))
    assert errors.drags == pytest.approx(1, abs=0.01)


def test_a_pin_that_slips_is_measured_in_pixels() -> None:
    source = texture(16, blur=3)
    errors = metrics.point_errors(source, shifted(source, 3, 0), HANDLES, HANDLES)
    assert errors.pins == pytest.approx(3, abs=0.1)
    assert np.isnan(errors.drags)


def test_the_search_keeps_to_its_discs() -> None:
    """A shift beyond max(6 px, 1.2 drag lengths) of handle and target is not found."""
    source = texture(17, blur=3)
    handle = np.array([50.0, 45.0])
    found = metrics.find_point(source, shifted(source, 20, 0), handle, handle + np.array([5, 0]))
    assert found is not None
    assert min(np.hypot(*(found - handle)), np.hypot(*(found - handle - [5, 0]))) <= 6.71


def test_points_at_the_border_are_found_and_flat_patches_are_not_judged() -> None:
    source = texture(18, blur=3)
    corner = np.array([[0.0, 0.0]])
    assert metrics.point_errors(source, source, corner, corner).pins == pytest.approx(0, abs=0.1)
    flat = np.full_like(source, 90)
    assert metrics.find_point(flat, source, np.array([50.0, 45.0]), np.array([55.0, 45.0])) is None


# Candidates and the mask -----------------------------------------------------------------------


def test_deviation_between_candidates_is_in_grey_levels() -> None:
    low, high = np.full((4, 4, 3), 100, np.uint8), np.full((4, 4, 3), 110, np.uint8)
    region = np.ones((4, 4), bool)
    assert metrics.seed_deviation([low, high], region) == pytest.approx(5)
    assert metrics.seed_deviation([low, low], region) == 0
    assert np.isnan(metrics.seed_deviation([low, high], ~region))


def test_pixels_changed_outside_the_mask_are_counted() -> None:
    source = texture(19)
    result = source.copy()
    result[20:70, 30:100] += 1
    assert metrics.changed_outside(source, result, part()) == 0
    result[0, :7, 2] += 1
    assert metrics.changed_outside(source, result, part()) == 7


def test_discs_around_points_have_the_patch_s_size() -> None:
    near = metrics.around(np.array([[60.0, 40.0]]), HEIGHT, WIDTH)
    assert near.sum() == pytest.approx(np.pi * (metrics.patch_side(HEIGHT, WIDTH) / 2) ** 2, rel=0.15)
    assert near[40, 60]
