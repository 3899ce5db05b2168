"""The pipeline is sensitive to what it is given, shares what is the same, and refuses what is wrong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, LCMScheduler, PNDMScheduler
from PIL import Image
from torch import Tensor, nn

from lightningdrag.guidance import NOISE_PRIORS, SCHEDULES
from lightningdrag.models import codec
from lightningdrag.models.protocol import DragInputs, EditCancelled, PaintedEdit
from lightningdrag.models.sd15 import SD15Model
from lightningdrag.pipeline import LightningDragPipeline
from sd15_tiny import HEIGHT, WIDTH, edit_inputs, load_pipeline, reference_tensors, relative_error, use_lcm

SETTINGS: dict[str, Any] = {
    "num_inference_steps": 3,
    "guidance_scale": 3.0,
    "sample_posterior": False,
    "output_type": "latent",
}


@pytest.fixture(scope="module")
def pipeline() -> LightningDragPipeline:
    return load_pipeline()


def noise(count: int = 1) -> Tensor:
    return torch.randn(count, 4, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(7))


def edit(pipeline: LightningDragPipeline, **changes: Any) -> Any:
    return pipeline(**{**edit_inputs(), **SETTINGS, "noise": noise(), **changes}).images


def calls_of(module: nn.Module, calls: list[Tensor]) -> Any:
    """Note the first argument of every call of a module."""
    return module.register_forward_hook(lambda _, args, __: calls.append(args[0]))


# Sensitivity


def test_moving_a_target_moves_the_output(pipeline: LightningDragPipeline):
    targets = edit_inputs()["targets"] + torch.tensor([24, 16])
    assert relative_error(edit(pipeline, targets=targets), edit(pipeline)) > 1e-3


def test_moving_a_handle_moves_the_output(pipeline: LightningDragPipeline):
    handles = edit_inputs()["handles"] - torch.tensor([24, 16])
    assert relative_error(edit(pipeline, handles=handles), edit(pipeline)) > 1e-3


def test_handles_that_meet_both_count(pipeline: LightningDragPipeline):
    """As those of two drags do half way when ``max_step`` splits them."""
    handle, targets = (100, 60), [(120, 60), (80, 60)]
    both = edit(pipeline, handles=[handle, handle], targets=targets)
    assert both.isfinite().all()
    for target in targets:
        assert relative_error(edit(pipeline, handles=[handle], targets=[target]), both) > 1e-3


@pytest.mark.parametrize("block", [0, 5, 6, 14, 15])
def test_the_reference_of_each_block_matters(pipeline: LightningDragPipeline, block: int):
    inputs = {**edit_inputs(), **SETTINGS, "noise": noise()}
    del inputs["output_type"]
    image = inputs.pop("image")
    before = pipeline.sample(pipeline.encode(image, sample_posterior=False), **inputs)
    features = pipeline.encode(image, sample_posterior=False)
    features.references[block].neg_()
    assert relative_error(pipeline.sample(features, **inputs), before) > 1e-5


def test_the_source_image_matters(pipeline: LightningDragPipeline):
    flipped = edit_inputs()["image"].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert relative_error(edit(pipeline, image=flipped), edit(pipeline)) > 1e-2


def test_the_branch_without_points_sees_the_reference_but_no_points(pipeline: LightningDragPipeline):
    predictions: list[Tensor] = []
    hook = pipeline.unet.register_forward_hook(lambda _, __, output: predictions.append(output[0]))
    edit(pipeline, num_inference_steps=1)
    edit(pipeline, num_inference_steps=1, targets=edit_inputs()["targets"] + 24)
    hook.remove()
    (without, with_points), (without_moved, with_moved) = predictions
    assert torch.equal(without, without_moved)
    assert not torch.allclose(with_points, with_moved)


# Candidates


def test_permuting_candidates_permutes_the_results(pipeline: LightningDragPipeline):
    order = torch.tensor([2, 0, 1])
    results = edit(pipeline, num_images=3, noise=noise(3))
    permuted = edit(pipeline, num_images=3, noise=noise(3)[order])
    assert relative_error(permuted, results[order]) < 1e-5
    assert relative_error(results[0], results[1]) > 1e-2


def test_candidates_share_what_is_the_same(pipeline: LightningDragPipeline):
    encoded: list[Tensor] = []
    looked: list[Tensor] = []
    hooks = [calls_of(pipeline.vae.encoder, encoded), calls_of(pipeline.appearance_encoder, looked)]
    edit(pipeline, num_images=3, noise=noise(3))
    for hook in hooks:
        hook.remove()
    assert [len(batch) for batch in looked] == [1]
    assert [len(batch) for batch in encoded] == [1, 1]  # the source, and the source without the mask


def test_an_encoded_source_is_encoded_again_without_the_mask_only_when_the_mask_changes(
    pipeline: LightningDragPipeline,
):
    inputs = edit_inputs()
    features = pipeline.encode(inputs.pop("image"), sample_posterior=False)
    encoded: list[Tensor] = []
    hook = calls_of(pipeline.vae.encoder, encoded)

    def sample(**changes: Any) -> Tensor:
        settings = {**inputs, **SETTINGS, "noise": noise(), **changes}
        del settings["output_type"]
        return pipeline.sample(features, **settings)

    first, again = sample(), sample()
    assert len(encoded) == 1
    assert torch.equal(first, again)
    other = sample(mask=np.ones((HEIGHT, WIDTH), bool))
    assert len(encoded) == 2
    assert not torch.equal(first, other)
    assert torch.equal(first, sample())
    hook.remove()


def test_references_and_text_are_projected_once_a_source(pipeline: LightningDragPipeline):
    transformer = pipeline.unet.mid_block.attentions[0].transformer_blocks[0]
    own: list[Tensor] = []
    text: list[Tensor] = []
    before: list[int] = []
    hooks = [calls_of(transformer.attn1.to_k, own), calls_of(transformer.attn2.to_k, text)]
    hooks.append(pipeline.unet.register_forward_pre_hook(lambda *_: before.append(len(own) + len(text))))
    inputs = {**edit_inputs(), **SETTINGS, "num_inference_steps": 2}
    del inputs["output_type"]
    features = pipeline.encode(inputs.pop("image"), sample_posterior=False)
    for count in (2, 1):
        pipeline.sample(features, **inputs, num_images=count, noise=noise(count))
    for hook in hooks:
        hook.remove()
    assert sorted(len(batch) for batch in own) == [1, 2, 2, 4, 4]
    assert [len(batch) for batch in text] == [1]
    assert before[0] == 2  # outside the denoiser, whose calls are then all alike
    assert features.references == []


# Guidance


@pytest.mark.parametrize("guidance", [1.0, 0.0])
def test_guidance_of_one_or_below_runs_one_branch(pipeline: LightningDragPipeline, guidance: float):
    batches: list[Tensor] = []
    hook = calls_of(pipeline.unet, batches)
    result = edit(pipeline, guidance_scale=guidance)
    hook.remove()
    assert [len(batch) for batch in batches] == [1, 1, 1]
    assert relative_error(result, edit(pipeline, guidance_scale=1 + 1e-7)) < 1e-4


@pytest.mark.parametrize("schedule", SCHEDULES[1:])
def test_every_schedule_is_an_edit_of_its_own(pipeline: LightningDragPipeline, schedule: str):
    result = edit(pipeline, guidance_schedule=schedule)
    assert result.isfinite().all()
    assert relative_error(result, edit(pipeline)) > 1e-5


@pytest.mark.parametrize("prior", NOISE_PRIORS[1:])
def test_every_noise_prior_is_an_edit_of_its_own(pipeline: LightningDragPipeline, prior: str):
    result = edit(pipeline, noise_prior=prior)
    assert result.isfinite().all()
    assert relative_error(result, edit(pipeline)) > 1e-4


# Randomness


@pytest.mark.parametrize("lcm", [False, True])
def test_the_same_seed_gives_the_same_edit(lcm: bool):
    pipeline = use_lcm(load_pipeline()) if lcm else load_pipeline()

    def drawn(seed: int) -> Tensor:
        return edit(
            pipeline, noise=None, sample_posterior=True, generator=torch.Generator().manual_seed(seed)
        )

    assert torch.equal(drawn(3), drawn(3))
    assert relative_error(drawn(3), drawn(4)) > 1e-3


def test_a_generator_for_each_candidate_makes_it_independent_of_the_others(pipeline: LightningDragPipeline):
    def drawn(*seeds: int) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return edit(pipeline, noise=None, num_images=len(seeds), generator=generators)

    assert relative_error(drawn(1, 2)[1], drawn(2)[0]) < 1e-5


# Callbacks


def test_a_callback_sees_every_step_and_can_stop(pipeline: LightningDragPipeline):
    seen: list[tuple[int, int]] = []

    def stop_after_two(pipe: LightningDragPipeline, step: int, t: Tensor, tensors: dict[str, Tensor]) -> None:
        seen.append((step, tuple(tensors["latents"].shape)[1]))
        pipe._interrupt = step == 1

    assert edit(pipeline, callback_on_step_end=stop_after_two).isfinite().all()
    assert seen == [(0, 4), (1, 4)]
    edit(pipeline)
    assert not pipeline.interrupt


def test_a_callback_can_replace_the_latents(pipeline: LightningDragPipeline):
    result = edit(pipeline, callback_on_step_end=lambda *_: {"latents": torch.zeros(1, 4, 16, 24)})
    assert result.count_nonzero() == 0


# Saving, types, results


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_folder_of_safetensors_holds_it_all(
    pipeline: LightningDragPipeline, tmp_path: Path, dtype: torch.dtype
):
    pipeline.save_pretrained(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in {".bin", ".pt"}]
    loaded = LightningDragPipeline.from_pretrained(tmp_path, torch_dtype=dtype)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.unet.dtype == loaded.point_encoder.dtype == loaded.appearance_encoder.dtype == dtype
    error = relative_error(edit(loaded), edit(pipeline))
    assert error < (1e-6 if dtype == torch.float32 else 0.05)


def test_networks_left_on_disk_make_the_same_edit_and_are_not_saved(
    pipeline: LightningDragPipeline, tmp_path: Path
):
    lean = load_pipeline(low_memory=True)
    for part in (lean.image_encoder, lean.appearance_encoder):
        assert {parameter.device.type for parameter in part.parameters()} == {"meta"}
    assert relative_error(edit(lean), edit(pipeline)) < 1e-5
    assert {parameter.device.type for parameter in lean.appearance_encoder.parameters()} == {"meta"}
    refusal = "image_encoder, appearance_encoder were left on disk; to save, load with the option resident"
    with pytest.raises(ValueError, match=refusal):
        lean.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_low_memory_on_a_gpu_brings_each_network_there_while_it_runs(monkeypatch: pytest.MonkeyPatch):
    devices: list[str] = []
    monkeypatch.setattr(
        LightningDragPipeline, "enable_model_cpu_offload", lambda _, device: devices.append(device)
    )
    offloaded = load_pipeline(low_memory=True, device="cuda")
    assert devices == ["cuda"]
    assert offloaded.image_encoder.device.type == "cpu"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_float32(pipeline: LightningDragPipeline, dtype: torch.dtype):
    half = load_pipeline(dtype=dtype)
    assert {part.dtype for part in half.components.values() if isinstance(part, nn.Module)} == {dtype}
    assert relative_error(edit(half), edit(pipeline)) < 0.05


@pytest.mark.parametrize(
    ("output_type", "kind", "shape"),
    [("pil", Image.Image, (WIDTH, HEIGHT)), ("np", np.ndarray, (HEIGHT, WIDTH, 3))],
)
def test_results_come_as_asked(
    pipeline: LightningDragPipeline, output_type: str, kind: type, shape: tuple[int, ...]
):
    images = edit(pipeline, num_images=2, noise=noise(2), output_type=output_type)
    assert len(images) == 2
    assert isinstance(images[0], kind)
    assert (images[0].size if output_type == "pil" else images[0].shape) == shape


def test_images_masks_and_points_come_in_any_usual_form(pipeline: LightningDragPipeline):
    given = edit_inputs()
    pixels, mask = np.asarray(given["image"].convert("RGB")), np.asarray(given["mask"].convert("L"))
    arrays = edit(
        pipeline,
        image=pixels,
        mask=mask >= 128,
        handles=given["handles"].tolist(),
        targets=given["targets"].numpy(),
    )
    tensors = edit(
        pipeline,
        image=torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 127.5 - 1,
        mask=torch.from_numpy(mask / 255)[None],
    )
    assert torch.equal(arrays, edit(pipeline))
    assert torch.equal(tensors, edit(pipeline))


def test_two_points_on_one_pixel_do_not_erase_each_other(pipeline: LightningDragPipeline):
    maps: list[Tensor] = []
    hook = calls_of(pipeline.point_encoder, maps)
    edit(pipeline, handles=[(40, 40), (60.2, 60), (59.8, 60)], targets=[(50, 50), (50, 50), (50, 50)])
    hook.remove()
    assert maps[0].unique().tolist() == [0, 1, 2, 3]
    assert (maps[0] > 0).sum() == 6


# Bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": Image.new("RGB", (100, 128))}, "multiples of 64, got 100x128"),
        ({"image": np.zeros((128, 192), np.uint8)}, r"\(H, W, 3\) uint8, got \(128, 192\) uint8"),
        ({"image": np.zeros((128, 192, 3))}, r"uint8, got \(128, 192, 3\) float64"),
        ({"image": torch.full((1, 3, 128, 192), 255.0)}, r"in \[-1, 1\]"),
        ({"mask": Image.new("L", (64, 64), 255)}, r"image's size 192x128, got the shape \(64, 64\)"),
        ({"mask": Image.new("L", (192, 128), 127)}, "mask is empty"),
        ({"handles": [(1, 2)], "targets": [(1, 2), (3, 4)]}, r"got \(1, 2\) and \(2, 2\)"),
        ({"handles": [], "targets": []}, r"got \(0,\)"),
        ({"handles": torch.zeros(0, 2), "targets": torch.zeros(0, 2)}, "1 to 64 pairs of points, got 0"),
        ({"handles": torch.rand(65, 2), "targets": torch.rand(65, 2)}, "got 65"),
        ({"handles": [(192, 5)], "targets": [(1, 2)]}, r"handle 0 at \(192, 5\) lies outside .* 192x128"),
        ({"handles": [(5, 5)], "targets": [(float("nan"), 2)]}, r"target 0 at \(nan, 2\)"),
        ({"num_inference_steps": 0}, "at least 1, got 0"),
        ({"output_type": "jpeg"}, "output_type is 'jpeg'; it must be one of pil, np, pt, latent"),
        ({"guidance_scale": float("inf")}, "finite number, got inf"),
        ({"guidance_schedule": "sine"}, "unknown guidance schedule 'sine'"),
        ({"noise_prior": "blue"}, "unknown noise prior 'blue'"),
        ({"num_images": 0}, "at least 1, got 0"),
        ({"num_images": 2}, r"shape \(2, 4, 16, 24\), got \(1, 4, 16, 24\)"),
        ({"num_images": 2, "noise": None, "generator": [torch.Generator()]}, "1 generators for 2 images"),
    ],
)
def test_bad_input_is_named(pipeline: LightningDragPipeline, changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        edit(pipeline, **changes)


@pytest.mark.parametrize(
    ("kind", "steps", "message"),
    [
        (DDIMScheduler, 1000, r"steps is 1000; DDIMScheduler takes 1\.\.999"),
        (DDIMScheduler, 600, "steps is 600, of which DDIMScheduler's first would be at timestep 600 of 1000"),
        (LCMScheduler, 51, r"steps is 51; LCMScheduler takes 1\.\.50"),
        (EulerDiscreteScheduler, 3, "EulerDiscreteScheduler is not variance preserving"),
    ],
)
def test_what_a_scheduler_cannot_do_is_named(
    pipeline: LightningDragPipeline, monkeypatch: pytest.MonkeyPatch, kind: Any, steps: int, message: str
):
    monkeypatch.setattr(pipeline, "scheduler", kind.from_config(pipeline.scheduler.config))
    with pytest.raises(ValueError, match=message):
        edit(pipeline, num_inference_steps=steps)


def test_a_mask_that_falls_between_the_latent_pixels_is_not_lost():
    masks = torch.zeros(2, 1, HEIGHT, WIDTH)
    masks[0, 0, 33:40, 33:40] = 1
    masks[1, 0, 33:60, 33:60] = 1
    thin, wide = codec.latent_mask(masks, HEIGHT // 8, WIDTH // 8)
    assert thin.nonzero().tolist() == [[0, 4, 4]]
    assert torch.equal(wide, masks[1, :, ::8, ::8])  # the nearest neighbours


# Behind the editor's protocol


@pytest.fixture(scope="module")
def window() -> Tensor:
    pixels = np.array(edit_inputs()["image"].convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1


def drag_inputs(**changes: Any) -> DragInputs:
    tensors = reference_tensors()
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[32:96, 32:128] = True
    return DragInputs(
        **{
            "handles": tensors["handles_yx"].flip(-1).float(),
            "targets": tensors["targets_yx"].flip(-1).float(),
            "mask": mask,
            "steps": 2,
            **changes,
        }
    )


def paint(model: SD15Model, window: Tensor, **changes: Any) -> PaintedEdit:
    return model.generate(model.encode(window), drag_inputs(**changes), torch.Generator().manual_seed(0))


def test_defaults_go_with_the_scheduler():
    ddim, lcm = SD15Model(load_pipeline()), SD15Model(use_lcm(load_pipeline()))
    assert (ddim.default_steps, ddim.default_guidance) == (25, 4.0)
    assert (lcm.default_steps, lcm.default_guidance) == (8, 3.0)


def test_an_encoded_window_serves_many_edits(window: Tensor):
    model = SD15Model(load_pipeline())
    encoded = model.encode(window)
    first = model.generate(encoded, drag_inputs(), torch.Generator().manual_seed(0)).image
    second = model.generate(encoded, drag_inputs(), torch.Generator().manual_seed(0)).image
    assert torch.equal(first, second)
    assert torch.equal(first, paint(model, window).image)
    assert first.shape == (1, 3, HEIGHT, WIDTH)
    assert first.abs().max() <= 1


@pytest.mark.parametrize("lcm", [False, True])
def test_a_candidate_is_the_same_however_many_there_are(window: Tensor, lcm: bool):
    model = SD15Model(use_lcm(load_pipeline()) if lcm else load_pipeline())
    one, three = (paint(model, window, num_images=count).image for count in (1, 3))
    assert len(three) == 3
    assert (three[0] - one[0]).abs().max() < 1e-4
    assert (three[1] - one[0]).abs().max() > 1e-2


def test_the_callback_counts_from_one_and_cancels(window: Tensor):
    model = SD15Model(load_pipeline())
    seen: list[tuple[int, int]] = []

    def stop_at_two(step: int, total: int) -> bool:
        seen.append((step, total))
        return step < 2

    with pytest.raises(EditCancelled, match="after step 2 of 5"):
        paint(model, window, steps=5, callback=stop_at_two)
    assert seen == [(1, 5), (2, 5)]


def test_progress_ends_at_its_total_where_a_scheduler_makes_more_steps(window: Tensor):
    model = SD15Model(load_pipeline())
    model.pipeline.scheduler = PNDMScheduler.from_config(model.pipeline.scheduler.config, skip_prk_steps=True)
    seen: list[tuple[int, int]] = []
    paint(model, window, steps=3, callback=lambda step, total: seen.append((step, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_networks_leave_the_gpu_when_an_edit_is_stopped(window: Tensor, monkeypatch: pytest.MonkeyPatch):
    model, freed = SD15Model(load_pipeline()), []
    monkeypatch.setattr(model.pipeline, "maybe_free_model_hooks", lambda: freed.append(True))
    with pytest.raises(EditCancelled):
        paint(model, window, callback=lambda step, total: False)
    assert len(freed) == 2, "after encoding, and after the edit"


def test_edits_from_two_threads_do_not_mix(window: Tensor):
    model = SD15Model(load_pipeline())
    alone = [paint(model, window, steps=steps).image for steps in (2, 3)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda steps: paint(model, window, steps=steps).image, (2, 3)))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_wrong_arguments_are_told_before_a_network_runs(
    pipeline: LightningDragPipeline, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pipeline, "encode", lambda *_, **__: pytest.fail("a network ran"))
    for wrong in ({"output_type": "jpeg"}, {"handles": [(1, 2)]}, {"noise_prior": "blue"}):
        with pytest.raises(ValueError, match=r"output_type|pairs|handles|noise prior|got"):
            edit(pipeline, **wrong)


# On a GPU, where there is one


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("offload", [False, True])
def test_cuda_and_offload_make_the_same_edit(pipeline: LightningDragPipeline, offload: bool):
    other = load_pipeline()
    if offload:
        other.enable_model_cpu_offload()
    else:
        other.to("cuda")
    result = edit(other)
    assert result.device.type == "cuda"
    assert relative_error(result.cpu(), edit(pipeline)) < 1e-2
    if offload:
        assert {p.device.type for p in other.appearance_encoder.parameters()} == {"cpu"}
