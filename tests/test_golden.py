"""Every tensor that the released implementation computes comes out within 1e-4 relative L2, in float32.

``golden/`` holds a whole model at toy widths and those tensors. What they are:

handle_map, target_map                          point maps
handle_embedding_i, target_embedding_i          the pyramid's levels 1/8 .. 1/64
ref_latents, appearance_text                    what the appearance encoder is given
bank_0 .. bank_15                               what it hands over: down (0-5), up (6-14), mid (15)
context                                         text and image-prompt tokens, both guidance branches
noise, unet_in_i, t_i, unet_out_i               the DDIM run; batch = [without points, with points]
final_latents, final_image                      its end, before and behind the VAE decoder, not clamped
lcm_noise, lcm_t_i, lcm_step_noise_i, lcm_final_latents     the same edit with LCM
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import torch
from diffusers.schedulers import scheduling_lcm
from torch import Tensor

from lightningdrag.models.point_embedding import point_maps
from lightningdrag.pipeline import LightningDragPipeline, SourceFeatures
from sd15_tiny import HEIGHT, WIDTH, edit_inputs, load_pipeline, reference_tensors, relative_error, use_lcm

Check = Callable[[Tensor, str], None]
TOLERANCE = 1e-4
GOLDEN = reference_tensors()
STEPS = 4
SETTINGS = {"num_inference_steps": STEPS, "guidance_scale": 3.0, "sample_posterior": False}


@dataclass
class Run:
    """One edit, with what went in and out of the denoiser."""

    features: SourceFeatures
    references: list[Tensor]
    latents: Tensor
    image: Tensor
    unet_in: list[Tensor] = field(default_factory=list)
    unet_out: list[Tensor] = field(default_factory=list)
    timesteps: list[int] = field(default_factory=list)


def record_edit(pipeline: LightningDragPipeline, noise: Tensor) -> Run:
    inputs = edit_inputs()
    calls: list[tuple[Tensor, int, Tensor]] = []
    hook = pipeline.unet.register_forward_hook(
        lambda _, args, output: calls.append((args[0], int(args[1]), output[0]))
    )
    features = pipeline.encode(inputs.pop("image"), sample_posterior=False)
    references = list(features.references)  # dropped once they are projected
    latents = pipeline.sample(features, **inputs, **SETTINGS, noise=noise)
    hook.remove()
    unet_in, timesteps, unet_out = (list(part) for part in zip(*calls, strict=True))
    return Run(features, references, latents, pipeline.decode(latents), unet_in, unet_out, timesteps)


@pytest.fixture(scope="module")
def pipeline() -> LightningDragPipeline:
    return load_pipeline()


@pytest.fixture(scope="module")
def ddim(pipeline: LightningDragPipeline) -> Run:
    return record_edit(pipeline, GOLDEN["noise"])


@pytest.fixture(scope="module")
def maps() -> Tensor:
    inputs = edit_inputs()
    return point_maps(inputs["handles"][None], inputs["targets"][None], HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def errors() -> Iterator[dict[str, float]]:
    """Collects every error; ``pytest -s`` shows the largest."""
    found: dict[str, float] = {}
    yield found
    name = max(found, key=found.__getitem__)
    print(f"\nlargest relative L2 error of {len(found)} tensors: {found[name]:.1e} ({name})")


@pytest.fixture
def assert_golden(errors: dict[str, float]) -> Check:
    def check(actual: Tensor, name: str) -> None:
        errors[name] = relative_error(actual, GOLDEN[name])
        assert errors[name] < TOLERANCE

    return check


def test_point_maps(maps: Tensor):
    assert torch.equal(maps[:, :1], GOLDEN["handle_map"])
    assert torch.equal(maps[:, 1:], GOLDEN["target_map"])


@pytest.mark.parametrize("level", range(4))
def test_point_embedding(pipeline: LightningDragPipeline, maps: Tensor, level: int, assert_golden: Check):
    handle, target = pipeline.point_encoder.embedding(maps)[level]
    assert_golden(handle, f"handle_embedding_{level}")
    assert_golden(target, f"target_embedding_{level}")


def test_what_the_appearance_encoder_is_given(ddim: Run, assert_golden: Check):
    assert_golden(ddim.features.latents, "ref_latents")
    assert_golden(ddim.features.text, "appearance_text")


@pytest.mark.parametrize("block", range(16))
def test_what_the_appearance_encoder_hands_over(ddim: Run, block: int, assert_golden: Check):
    assert len(ddim.references) == 16
    assert_golden(ddim.references[block], f"bank_{block}")


def test_context_of_both_branches(ddim: Run, assert_golden: Check):
    context = torch.cat((ddim.features.text, ddim.features.image_tokens), dim=1)
    assert_golden(context.expand(2, -1, -1), "context")


@pytest.mark.parametrize("step", range(STEPS))
def test_denoiser_at_each_step(ddim: Run, step: int, assert_golden: Check):
    assert ddim.timesteps[step] == GOLDEN[f"t_{step}"]
    assert_golden(ddim.unet_in[step], f"unet_in_{step}")
    assert_golden(ddim.unet_out[step], f"unet_out_{step}")


def test_final_latents_and_image(ddim: Run, assert_golden: Check):
    assert len(ddim.timesteps) == STEPS
    assert_golden(ddim.latents, "final_latents")
    assert_golden(ddim.image, "final_image")


def test_whole_call_is_the_same_edit(pipeline: LightningDragPipeline):
    result = pipeline(**edit_inputs(), **SETTINGS, noise=GOLDEN["noise"], output_type="pt")
    assert relative_error(result.images, (GOLDEN["final_image"] / 2 + 0.5).clamp(0, 1)) < TOLERANCE


def test_lcm(monkeypatch: pytest.MonkeyPatch, assert_golden: Check):
    draws = iter([GOLDEN[f"lcm_step_noise_{step}"] for step in range(STEPS - 1)])
    monkeypatch.setattr(scheduling_lcm, "randn_tensor", lambda *_, **__: next(draws))
    run = record_edit(use_lcm(load_pipeline()), GOLDEN["lcm_noise"])
    assert run.timesteps == [int(GOLDEN[f"lcm_t_{step}"]) for step in range(STEPS)]
    assert_golden(run.latents, "lcm_final_latents")


def test_every_golden_tensor_is_compared_or_given():
    tested = {"handle_map", "target_map", "ref_latents", "appearance_text", "context"}
    tested |= {"final_latents", "final_image", "lcm_final_latents"}
    tested |= {f"{kind}_embedding_{level}" for kind in ("handle", "target") for level in range(4)}
    tested |= {f"bank_{block}" for block in range(16)}
    tested |= {f"{kind}_{step}" for kind in ("unet_in", "unet_out", "t", "lcm_t") for step in range(STEPS)}
    given = {"handles_yx", "targets_yx", "noise", "lcm_noise"}
    given |= {f"lcm_step_noise_{step}" for step in range(STEPS - 1)}
    assert tested | given == set(GOLDEN)
