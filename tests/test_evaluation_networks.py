"""Measures by networks: their mechanics on small random ones, their constants, and their absence."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluation_scenes import scene
from lightningdrag.evaluation import dift
from lightningdrag.evaluation.case import TRUTH
from lightningdrag.evaluation.dift import Dift, at_points, discs, likeness, mean_distances, most_alike
from lightningdrag.evaluation.lpips import Lpips, image_fidelity, to_tensor
from lightningdrag.evaluation.networks import ALEXNET, LPIPS_HEADS, load_networks, perceptual

SHIFT = 16
"""A whole number of the tiny networks' strides."""


@pytest.fixture(scope="module")
def lpips() -> Lpips:
    torch.manual_seed(0)
    model = Lpips()
    for head in model.heads:
        nn.init.uniform_(head.weight, 0, 1)  # LPIPS' heads are not negative
    return model


@pytest.fixture(scope="module")
def tiny_dift() -> Dift:
    """DIFT on a random UNet and autoencoder of Stable Diffusion's kind, too small to mean anything."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        mid_block_type=None,
        up_block_types=("UpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        mid_block_add_attention=False,
        scaling_factor=20.0,
    )
    with torch.no_grad():  # a certain posterior, as a trained autoencoder's: the picture outweighs the noise
        vae.quant_conv.bias[4:] = -20
    return Dift(unet.eval(), vae.eval(), DDIMScheduler(), lambda prompt: torch.zeros(1, 2, 8))


def shifted(case_source: np.ndarray) -> np.ndarray:
    return np.roll(case_source, SHIFT, 1)


# DIFT ------------------------------------------------------------------------------------------


def test_the_constants_are_those_of_the_published_protocol() -> None:
    assert (dift.TIMESTEP, dift.UP_BLOCK, dift.ENSEMBLE) == (261, 1, 8)
    assert (dift.DISC_SIDE, dift.DISC_MINIMUM) == (768, 5.0)


def test_a_shifted_image_gives_the_shift_back(tiny_dift: Dift) -> None:
    source = scene((12, 4)).source
    before, after = (tiny_dift.features(image, "") for image in (source, shifted(source)))
    assert before.shape[1:] == source.shape[:2], "upsampled to the image"
    handles = np.array([[40, 40], [56, 30], [60, 70]])
    for (x, y), cosines in zip(handles, likeness(at_points(before, handles), after), strict=True):
        assert most_alike(cosines, None).tolist() == [x + SHIFT, y]


def test_doing_nothing_scores_the_drags_length(tiny_dift: Dift) -> None:
    case = scene((12, 5))
    scores = mean_distances(tiny_dift, case, {"identity": case.source})["identity"]
    assert scores["md"] == scores["md_masked"] == 13
    across, down = 12 / 128, 5 / 96
    assert scores["md_discs"] == pytest.approx(100 * np.hypot(across, down), abs=0.15), "768 px round it"


def test_a_result_that_carried_the_handle_scores_near_zero(tiny_dift: Dift) -> None:
    case = scene((SHIFT, 0))
    scores = mean_distances(tiny_dift, case, {"shifted": shifted(case.source)})["shifted"]
    assert scores["md"] < 3
    assert scores["md_masked"] < 3


def test_the_masked_form_looks_inside_the_mask_only() -> None:
    features = torch.zeros(2, 8, 8)
    features[0], features[1, 1, 6], features[1, 5, 2] = 1, 10, 9
    (cosines,) = likeness(at_points(features, np.array([[6.2, 0.9]])), features)
    assert most_alike(cosines, None).tolist() == [6, 1]
    left = np.zeros((8, 8), bool)
    left[:, :4] = True
    assert most_alike(cosines, left).tolist() == [2, 5]


def test_features_are_compared_by_their_cosine() -> None:
    wanted, found_in = torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    points = np.array([[0, 0], [5, 3], [9, 2]])  # (x, y); the last beyond the border
    cosines = likeness(at_points(wanted, points), found_in)
    for (x, y), each in zip(((0, 0), (5, 3), (5, 2)), cosines, strict=True):
        torch.testing.assert_close(
            each, torch.cosine_similarity(wanted[:, y, x, None, None], found_in, dim=0)
        )


def test_one_image_s_features_are_held_at_a_time() -> None:
    """One of 768x768 takes 3 GB."""
    held: list[weakref.ref[Tensor]] = []

    class Counting:
        def features(self, image: np.ndarray, prompt: str) -> Tensor:
            assert all(features() is None for features in held)
            made = torch.rand(4, *image.shape[:2])
            held.append(weakref.ref(made))
            return made

    case = scene((12, 5))
    mean_distances(Counting(), case, {"identity": case.source, "shifted": shifted(case.source)})  # type: ignore[arg-type]
    assert len(held) == 6


def test_the_discs_reach_the_drags_length_over_root_two() -> None:
    looked_in = discs(np.array([100.0, 200]), np.array([200.0, 200]))
    assert looked_in[200, 100 - 70]
    assert not looked_in[200, 100 - 71]
    assert looked_in[200, 270]
    short = discs(np.array([100.0, 200]), np.array([101.0, 200]))
    assert short[205, 100]
    assert not short[206, 100]
    assert short.shape == (768, 768)


# LPIPS -----------------------------------------------------------------------------------------


def test_lpips_follows_its_formula(lpips: Lpips) -> None:
    a, b = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    total = 0.0
    shift, scale = (torch.tensor(x)[:, None, None] for x in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))

    def stages(x: Tensor) -> list[Tensor]:
        x, found = (x - shift) / scale, []
        for i, layer in enumerate(lpips.trunk.features):
            x = layer(x)
            if i in (1, 4, 7, 9, 11):  # torchvision's relu1 to relu5
                found.append(x / x.norm(dim=1, keepdim=True).clamp_min(1e-10))
        return found

    for head, fa, fb in zip(lpips.heads, stages(a), stages(b), strict=True):
        total += float(((fa - fb) ** 2 * head.weight[0][None]).sum(1).mean())
    assert lpips(a, b).tolist() == pytest.approx([total], rel=1e-4)


def test_the_map_is_the_images_size_and_zero_where_nothing_differs(lpips: Lpips) -> None:
    a = to_tensor([scene((12, 4)).source])
    assert lpips(a, a).tolist() == [0]
    b = a.clone()
    b[..., :20] = 0
    distances = lpips.map(a, b)
    assert distances.shape == (1, 1, 96, 128)
    assert distances[..., :20].mean() > 5 * distances[..., 110:].mean()


def test_identity_has_full_fidelity_and_the_truth_no_distance(lpips: Lpips) -> None:
    case = scene((12, 4))
    assert case.truth is not None
    results = {"identity": case.source, TRUTH: case.truth}
    scores = perceptual(lpips)(case, results)
    assert scores["identity"]["image_fidelity"] == pytest.approx(1)
    assert scores["identity"]["lpips_outside"] == pytest.approx(0, abs=1e-6)
    assert scores["identity"]["lpips"] > 0.01
    for region in ("lpips", "lpips_rim", "lpips_outside_truth"):
        assert scores["identity"][region] > 0
        assert scores[TRUTH][region] == pytest.approx(0, abs=1e-6)
    assert "lpips_outside" not in scores[TRUTH]
    assert image_fidelity(lpips, case.source, [case.truth]) == pytest.approx(
        [scores[TRUTH]["image_fidelity"]]
    )


def test_fidelity_is_measured_at_224(lpips: Lpips) -> None:
    seen: list[torch.Size] = []
    hook = lpips.trunk.register_forward_pre_hook(lambda module, x: seen.append(x[0].shape))
    image_fidelity(lpips, np.zeros((96, 128, 3), np.uint8), [np.zeros((96, 128, 3), np.uint8)])
    hook.remove()
    assert {tuple(shape) for shape in seen} == {(1, 3, 224, 224)}


# Weights ---------------------------------------------------------------------------------------


def test_weights_are_read_under_the_names_they_are_distributed_with(lpips: Lpips, tmp_path: Path) -> None:
    trunk = {f"features.{name}": tensor for name, tensor in lpips.trunk.features.state_dict().items()}
    torch.save({**trunk, "classifier.1.bias": torch.zeros(3)}, tmp_path / ALEXNET[0])
    heads = {f"lin{i}.model.1.weight": head.weight for i, head in enumerate(lpips.heads)}
    torch.save(heads, tmp_path / LPIPS_HEADS[0])
    measures, absent = load_networks(str(tmp_path))
    assert set(absent) == {"CLIP similarity", "mean distance by DIFT"}
    assert "stable-diffusion-2-1" in absent["mean distance by DIFT"]
    case = scene((12, 4))
    results = {"identity": case.source}
    assert measures[0](case, results) == perceptual(lpips)(case, results)


def test_damaged_weights_make_a_measure_absent_not_zero(tmp_path: Path) -> None:
    (tmp_path / ALEXNET[0]).write_bytes(b"no weights")
    measures, absent = load_networks(str(tmp_path))
    assert measures == []
    assert ALEXNET[0] in absent["image fidelity and LPIPS"]


def test_clip_similarity_of_an_image_with_itself_is_one(tmp_path: Path) -> None:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    from lightningdrag.evaluation.networks import CLIP

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=8,
    )
    folder = tmp_path / CLIP[0]
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    measures, absent = load_networks(str(tmp_path))
    assert "CLIP similarity" not in absent
    case = scene((12, 4))
    scores = measures[0](case, {"identity": case.source, "black": np.zeros_like(case.source)})
    assert scores["identity"]["clip_similarity"] == pytest.approx(1, abs=1e-5)
    assert scores["black"]["clip_similarity"] < 0.999

    (folder / "model.safetensors").write_bytes(b"no weights")
    measures, absent = load_networks(str(tmp_path))
    assert measures == []
    assert absent["CLIP similarity"]
