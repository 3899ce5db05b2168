"""Guidance weights follow their formulas; start latents follow their priors."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightningdrag.guidance import NOISE_PRIORS, SCHEDULES, guidance_weights, start_latents

FORMULAS = {
    "inverse_square": lambda w, s: (w - 1) * (1 - s) ** 2 + 1,
    "none": lambda w, s: w,
    "linear": lambda w, s: w * (1 - s) + s,
    "square": lambda w, s: w * (1 - s**2) + s**2,
    "cubic": lambda w, s: w * (1 - s**3) + s**3,
    "first_half": lambda w, s: (w - 1) * (1 - s) ** 2 + 1 if s < 0.5 else 1,
}


def test_the_papers_choices_come_first():
    assert SCHEDULES[0] == "inverse_square"
    assert NOISE_PRIORS[0] == "source"
    assert set(FORMULAS) == set(SCHEDULES)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(w=st.floats(1.001, 20), steps=st.integers(1, 60))
def test_weights_follow_the_formula(schedule: str, w: float, steps: int):
    weights = guidance_weights(schedule, w, steps)
    assert weights == pytest.approx([FORMULAS[schedule](w, i / steps) for i in range(steps)])
    assert weights[0] == pytest.approx(w)
    assert weights == sorted(weights, reverse=True)
    assert min(weights) >= 1


def test_first_half_guides_in_the_first_half_of_the_steps_alone():
    weights = guidance_weights("first_half", 3.0, 8)
    assert weights[:4] == guidance_weights("inverse_square", 3.0, 8)[:4]
    assert weights[4:] == [1.0] * 4


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("w", [1, 1.0, 0.5, 0.0, -3.0])
def test_guidance_of_one_or_below_needs_one_branch_at_every_step(schedule: str, w: float):
    assert guidance_weights(schedule, w, 5) == [1.0] * 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("quartic", 3.0, 4), "unknown guidance schedule 'quartic'; choose one of inverse_square"),
        (("none", float("nan"), 4), "finite number, got nan"),
        (("none", float("inf"), 4), "finite number, got inf"),
        (("none", 3.0, 0), "steps must be at least 1, got 0"),
    ],
)
def test_bad_guidance_is_named(arguments: tuple[str, float, int], message: str):
    with pytest.raises(ValueError, match=message):
        guidance_weights(*arguments)


def test_names_can_be_read_without_torch():
    code = "import sys, lightningdrag.guidance; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def edit() -> dict[str, torch.Tensor]:
    """A latent whose cell holds its own row and column, and an edit from (3, 4) to (9, 6)."""
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    mask = torch.zeros(1, 1, 12, 16)
    mask[..., 2:10, 1:14] = 1
    return {
        "source": torch.stack((rows, columns))[None],
        "noise": torch.full((1, 2, 12, 16), -100.0),
        "mask": mask,
        "handles": torch.tensor([[3.0, 4.0]]),
        "targets": torch.tensor([[9.0, 6.0]]),
    }


def start(prior: str, edit: dict[str, torch.Tensor], signal: float = 0.6, radius: int = 1) -> torch.Tensor:
    return start_latents(
        prior,
        edit["source"],
        edit["noise"],
        signal,
        radius=radius,
        **{name: edit[name] for name in ("mask", "handles", "targets")},
    )


def test_source_prior_is_the_noised_source(edit: dict[str, torch.Tensor]):
    assert torch.allclose(start("source", edit), 0.6 * edit["source"] + 0.8 * edit["noise"])


def test_noise_prior_is_noise(edit: dict[str, torch.Tensor]):
    assert torch.equal(start("noise", edit), edit["noise"])


def test_mixed_prior_is_noise_in_the_mask_only(edit: dict[str, torch.Tensor]):
    mixed, inside = start("mixed", edit), edit["mask"].bool().expand(-1, 2, -1, -1)
    assert torch.equal(mixed[inside], edit["noise"][inside])
    assert torch.equal(mixed[~inside], start("source", edit)[~inside])


def test_copy_paste_prior_moves_the_patch_and_leaves_noise(edit: dict[str, torch.Tensor]):
    pasted, noised = start("copy_paste", edit), start("source", edit)
    assert torch.equal(pasted[..., 5:8, 8:11], noised[..., 3:6, 2:5])
    assert torch.equal(pasted[..., 3:6, 2:5], edit["noise"][..., 3:6, 2:5])
    changed = (pasted != noised).any(1)
    assert changed.sum() == 18


def test_copy_paste_crops_patches_at_the_border(edit: dict[str, torch.Tensor]):
    edit["handles"], edit["targets"] = torch.tensor([[0.0, 0.0]]), torch.tensor([[15.0, 11.0]])
    pasted, noised = start("copy_paste", edit, radius=3), start("source", edit)
    assert torch.equal(pasted[..., 11, 15], noised[..., 0, 0])
    assert torch.equal(pasted[..., 10, 14], noised[..., 10, 14])


def test_unknown_prior_is_named(edit: dict[str, torch.Tensor]):
    with pytest.raises(ValueError, match="unknown noise prior 'blue'; choose one of source, noise, mixed"):
        start("blue", edit)
