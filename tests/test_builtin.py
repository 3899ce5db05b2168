"""The built-in model: what goes in, what comes out, and that every input matters."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightningdrag.checkpoints.builtin import (
    WEIGHTS,
    grow_weights,
    load_builtin,
    load_weights,
    save_builtin,
)
from lightningdrag.checkpoints.tensors import CheckpointError
from lightningdrag.ground import carried_on
from lightningdrag.models.builtin.evidence import DragBatch, gather_evidence
from lightningdrag.models.builtin.model import BuiltinModel, motion_prior
from lightningdrag.models.builtin.network import (
    CERTAIN,
    DOUBT,
    MORE,
    NOISE_CHANNELS,
    BuiltinConfig,
    BuiltinNetwork,
    Renderer,
    Rendering,
    without_weak_holes,
)
from lightningdrag.models.builtin.surroundings import surroundings, without_outline
from lightningdrag.models.protocol import Call, DragInputs, EditCancelled, MotionEdit
from lightningdrag.warp import drag_displacement

SMALL = BuiltinConfig(32, 32, 64, 32, 32, 32, 1, 32)
HEIGHT, WIDTH = 64, 96


def random_network() -> BuiltinNetwork:
    """A small network in which no layer is zero, so that every input has a way to the output."""
    torch.manual_seed(0)
    network = BuiltinNetwork(SMALL)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


@pytest.fixture(scope="module")
def model() -> BuiltinModel:
    return BuiltinModel(random_network())


@pytest.fixture(scope="module")
def window() -> Tensor:
    return torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) * 2 - 1


def inputs(**changes: object) -> DragInputs:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[8:56, 8:88] = True
    given = DragInputs(torch.tensor([[30.0, 30.0]]), torch.tensor([[50.0, 34.0]]), mask)
    return dataclasses.replace(given, **changes)  # type: ignore[arg-type]


def generate(model: BuiltinModel, window: Tensor, seed: int = 0, **changes: object) -> MotionEdit:
    return model.generate(model.encode(window), inputs(**changes), torch.Generator().manual_seed(seed))


def differ(a: MotionEdit, b: MotionEdit) -> bool:
    return not torch.allclose(a.displacement, b.displacement, atol=1e-4)


def test_an_edit_has_a_motion_a_visibility_and_a_colour_for_every_pixel(model, window) -> None:
    edit = generate(model, window, num_images=3)
    assert edit.displacement.shape == (3, 2, HEIGHT, WIDTH)
    assert edit.visibility.shape == (3, 1, HEIGHT, WIDTH)
    assert edit.colour.shape == (3, 3, HEIGHT, WIDTH)
    assert edit.visibility.min() >= 0
    assert edit.visibility.max() <= 1
    assert edit.colour.abs().max() <= 1


def test_nothing_moves_outside_the_mask(model, window) -> None:
    edit = generate(model, window)
    assert edit.displacement[..., :8].abs().max() == 0
    assert edit.displacement[..., 8:56, 8:88].abs().max() > 0


def test_an_untrained_network_answers_with_about_the_analytic_warp(window) -> None:
    torch.manual_seed(0)
    edit = generate(BuiltinModel(BuiltinNetwork(SMALL)), window)
    asked = inputs()
    anchors = torch.empty(1, 0, 2)
    free = drag_displacement(asked.handles[None], asked.targets[None], anchors, asked.mask[None, None])
    target = edit.displacement[0, :, 34, 50]
    assert torch.nn.functional.cosine_similarity(target, free[0, :, 34, 50], dim=0) > 0.99
    assert 0.4 < target.norm() / free[0, :, 34, 50].norm() <= 1


@pytest.mark.parametrize(
    "change",
    [
        {"targets": torch.tensor([[60.0, 40.0]])},
        {"handles": torch.tensor([[20.0, 20.0]])},
        {"mask": torch.ones(HEIGHT, WIDTH, dtype=torch.bool)},
        {"guidance": 3.0},
        {"steps": 4},
        {"noise_prior": "noise"},
        {"noise_prior": "mixed"},
        {"noise_prior": "copy_paste"},
        {"temperature": 1.0},
    ],
)
def test_every_input_moves_the_output(model, window, change) -> None:
    assert differ(generate(model, window), generate(model, window, **change))


def test_the_photo_moves_the_output(model, window) -> None:
    assert differ(generate(model, window), generate(model, window.flip(-1)))


def test_a_seed_means_one_edit(model, window) -> None:
    assert not differ(generate(model, window, seed=5), generate(model, window, seed=5))
    assert differ(generate(model, window, seed=5), generate(model, window, seed=6))


def test_the_first_candidate_does_not_depend_on_how_many_are_made(model, window) -> None:
    one, three = generate(model, window), generate(model, window, num_images=3)
    torch.testing.assert_close(one.displacement[0], three.displacement[0], atol=1e-3, rtol=1e-3)


def test_edits_made_together_are_those_made_one_by_one(model, window) -> None:
    asked = [
        inputs(num_images=2),
        inputs(handles=torch.tensor([[20.0, 20], [60, 40]]), targets=torch.tensor([[28.0, 20], [60, 40]])),
        inputs(mask=inputs().mask.roll(-6, 0), temperature=1.0),
    ]
    windows = [window, window.flip(3), -window]
    calls = [
        (model.encode(one), given, torch.Generator().manual_seed(seed))
        for seed, (one, given) in enumerate(zip(windows, asked, strict=True))
    ]
    together = model.generate_batch(calls)
    for seed, (edit, one, given) in enumerate(zip(together, windows, asked, strict=True)):
        alone = model.generate(model.encode(one), given, torch.Generator().manual_seed(seed))
        assert edit.displacement.shape == (given.num_images, 2, HEIGHT, WIDTH)
        for name in ("displacement", "visibility", "colour"):
            assert torch.allclose(getattr(edit, name), getattr(alone, name), atol=2e-4), name


def test_an_edit_draws_the_same_noise_in_any_company(model) -> None:
    shapes = torch.Size((1, 3, 8, 12)), torch.Size((1, 1, 16, 24))
    alone = model.draw(*shapes, torch.Generator().manual_seed(1))
    company = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    together = model.draw(torch.Size((2, 3, 8, 12)), shapes[1], company)
    assert all(torch.equal(one[0], two[1]) for one, two in zip(alone, together, strict=True))


def test_edits_made_together_agree_in_size_and_sampling_and_stop_together(model, window) -> None:
    def call(size: Tensor = window, **changes: object) -> Call:
        return model.encode(size), inputs(**changes), torch.Generator().manual_seed(0)

    for other in (call(steps=2), call(guidance=2.0), call(window[..., :64])):
        with pytest.raises(ValueError, match="one batch"):
            model.generate_batch([call(), other])
    steps: list[int] = []
    stopping = call(steps=3, callback=lambda step, total: step < 2)
    with pytest.raises(EditCancelled):
        model.generate_batch([stopping, call(steps=3, callback=lambda step, total: steps.append(step))])
    assert steps == [1, 2]


def test_64_pairs_are_taken(model, window) -> None:
    points = torch.rand(2, 64, 2, generator=torch.Generator().manual_seed(2)) * 48 + 8
    edit = generate(model, window, handles=points[0], targets=points[1])
    assert edit.displacement.isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 512), (96, 32)])
def test_any_window_of_whole_cells_is_taken(model, height, width) -> None:
    mask = torch.ones(height, width, dtype=torch.bool)
    window = torch.zeros(1, 3, height, width)
    assert generate(model, window, mask=mask).displacement.shape == (1, 2, height, width)


def test_the_callback_sees_every_step_and_can_stop(model, window) -> None:
    seen: list[tuple[int, int]] = []
    generate(model, window, steps=3, callback=lambda step, total: seen.append((step, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(EditCancelled, match="step 1 of 3"):
        generate(model, window, steps=3, callback=lambda step, total: False)


def test_bfloat16_stays_close_to_float32(window) -> None:
    network = random_network()
    full = generate(BuiltinModel(network), window)
    half = generate(BuiltinModel(network, torch.bfloat16), window)
    error = (full.displacement - half.displacement).norm() / full.displacement.norm()
    assert error < 0.1


def test_weights_held_in_bfloat16_give_the_very_same_edit(window) -> None:
    network = BuiltinNetwork()
    load_weights(network, WEIGHTS)
    cast_each_time = generate(BuiltinModel(network, torch.bfloat16), window)
    held = generate(load_builtin(dtype=torch.bfloat16), window)
    assert torch.equal(held.displacement, cast_each_time.displacement)
    assert torch.equal(held.colour, cast_each_time.colour)


def batch(targets: Tensor) -> DragBatch:
    handles = torch.tensor([[[16.0, 16.0], [40.0, 40.0]]])
    mask = torch.ones(1, 1, 64, 64)
    return DragBatch(
        torch.zeros(1, 3, 64, 64), mask, handles, targets, torch.ones(1, 2), torch.zeros(1, 1, 2)
    )


def test_displacements_are_in_units_of_the_longest_drag() -> None:
    evidence = gather_evidence(batch(torch.tensor([[[26.0, 16.0], [40.0, 44.0]]])))
    assert evidence.length.item() == pytest.approx(10)
    assert evidence.anchored.norm(dim=1).max() <= 1.001


def test_evidence_is_computed_in_float32_under_autocast_too() -> None:
    given = batch(torch.tensor([[[26.0, 16.0], [40.0, 44.0]]]))
    with torch.autocast("cpu", torch.bfloat16):
        cast = gather_evidence(given)
    torch.testing.assert_close(cast.features, gather_evidence(given).features)


def test_pins_alone_make_no_motion() -> None:
    evidence = gather_evidence(batch(torch.tensor([[[16.0, 16.0], [40.0, 40.0]]])))
    assert evidence.anchored.abs().max() == 0
    assert evidence.free.abs().max() == 0
    assert evidence.features[:, 11].max() > 0.9  # the channel of pins


def test_without_points_only_the_unit_is_left() -> None:
    given = batch(torch.tensor([[[26.0, 16.0], [40.0, 44.0]]]))
    evidence = gather_evidence(given.without_points())
    assert evidence.length.item() == pytest.approx(10)
    assert evidence.features[:, :4].abs().max() == 0


def test_the_prior_is_the_analytic_motion_with_everything_visible() -> None:
    evidence = gather_evidence(batch(torch.tensor([[[26.0, 16.0], [40.0, 44.0]]])))
    prior = motion_prior(evidence)
    torch.testing.assert_close(prior[:, :2], torch.nn.functional.avg_pool2d(evidence.anchored, 2))
    assert (prior[:, 2] == 1).all()
    assert motion_prior(evidence, "noise").abs().max() == 0


def test_weights_survive_the_file_in_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = BuiltinNetwork()
    save_builtin(network, tmp_path / "m.safetensors", {"step": 3})
    again = load_builtin(tmp_path / "m.safetensors").network.state_dict()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(again[name], tensor.half().float())
    assert (tmp_path / "m.safetensors").stat().st_size < 20 * 10**6


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    save_builtin(BuiltinNetwork(SMALL), tmp_path / "small.safetensors", {})
    with pytest.raises(CheckpointError, match=r"wrong shape.*appearance"):
        load_builtin(tmp_path / "small.safetensors")


def test_a_deeper_design_grows_from_a_shallower_ones_weights_and_begins_as_it(tmp_path, window) -> None:
    torch.manual_seed(0)
    shallow = BuiltinNetwork(dataclasses.replace(SMALL, deeper=0))
    save_builtin(shallow, tmp_path / "shallow.safetensors", {})
    load_weights(shallow, tmp_path / "shallow.safetensors")  # in half precision, as the other
    deep = BuiltinNetwork(SMALL)
    with pytest.warns(UserWarning, match=r"another design: \d+ tensors begin anew, 0 are left out"):
        grow_weights(deep, tmp_path / "shallow.safetensors")
    assert not differ(generate(BuiltinModel(deep), window), generate(BuiltinModel(shallow), window))


def test_what_fits_in_name_alone_is_not_grown(tmp_path: Path) -> None:
    save_builtin(BuiltinNetwork(SMALL), tmp_path / "small.safetensors", {})
    with pytest.raises(CheckpointError, match="wrong shape"):
        grow_weights(BuiltinNetwork(), tmp_path / "small.safetensors")


def test_the_shipped_weights_load_and_follow_a_drag(window) -> None:
    edit = generate(load_builtin(), window)
    at_target = edit.displacement[0, :, 34, 50]
    wanted = torch.tensor([-20.0, -4.0])
    assert (at_target - wanted).norm() < 0.5 * wanted.norm()


def test_a_hole_is_filled_with_what_stands_still_around_it_or_with_what_moved() -> None:
    picture = torch.full((1, 3, 32, 32), 0.5)
    picture[..., 20:] = -1.0  # a thing came to stand before a plain ground
    picture[..., 11:12] = 0.0  # its rim was tinged with the ground
    still, shown = torch.ones(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
    still[..., 20:] = 0
    shown[..., 12:20] = 0
    ground, thing = surroundings(picture, still, shown)
    torch.testing.assert_close(ground, torch.full_like(ground, 0.5), atol=0.03, rtol=0)
    torch.testing.assert_close(thing, torch.full_like(thing, -1.0), atol=0.03, rtol=0)


def test_a_long_windows_hole_is_filled_from_afar() -> None:
    known = torch.ones(1, 1, 56, 224)
    known[..., 60:160] = 0
    torch.testing.assert_close(
        carried_on(torch.full((1, 3, 56, 224), 0.8), known), torch.full((1, 3, 56, 224), 0.8)
    )


def test_the_renderer_carries_on_what_moved_from_where_it_came_to_stand() -> None:
    source, mask = torch.full((1, 3, 32, 32), 0.5), torch.ones(1, 1, 32, 32)
    source[..., :12] = -1.0  # a thing, all of the left; it moves right by 8 of its 12 pixels
    displacement, visibility = torch.zeros(1, 2, 32, 32), torch.full((1, 1, 32, 32), 9.0)
    displacement[:, 0, :, 8:20] = -16  # in pixels of the window, twice as many
    visibility[..., :8] = -9  # it uncovers what was behind it
    ground, thing = Renderer.carry_on(source, mask, displacement, visibility)
    torch.testing.assert_close(ground[..., :8], torch.full((1, 3, 32, 8), 0.5), atol=0.05, rtol=0)
    torch.testing.assert_close(thing[..., :8], torch.full((1, 3, 32, 8), -1.0), atol=0.05, rtol=0)


def test_carrying_on_teaches_the_motion_nothing() -> None:
    still = torch.zeros(1, 2, 16, 16, requires_grad=True)
    ones = torch.ones(1, 1, 16, 16)
    assert not any(x.requires_grad for x in Renderer.carry_on(torch.ones(1, 3, 16, 16), ones, still, ones))


def test_an_edit_hides_outlines(window: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a hole that the renderer makes, what stands still is hidden with it."""
    network = random_network()
    visibility = torch.full((1, 1, HEIGHT, WIDTH), 9.0)
    visibility[..., 24:40, 60:76] = -9
    still, black = torch.zeros(1, 2, HEIGHT, WIDTH), torch.zeros(1, 3, HEIGHT, WIDTH)
    rendering = Rendering(still, visibility, black, black[:, :1])
    monkeypatch.setattr(network.renderer, "forward", lambda *args: rendering)
    pin = torch.tensor([[30.0, 30.0]])
    shown = generate(BuiltinModel(network), window, handles=pin, targets=pin).visibility
    assert shown[..., 22:42, 58:78].max() < 0.01
    assert shown[..., :58].min() > 0.99


def test_candidates_share_their_fills_at_the_targets(window: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def numbered(rendering: Rendering, _: DragBatch, __: Tensor, luck: Tensor) -> Rendering:
        assert len(luck) == 3
        number = torch.arange(1.0, 4.0)[:, None, None, None].expand_as(rendering.visibility)
        return dataclasses.replace(
            rendering, colour=number.expand(-1, 3, -1, -1) / 4, origin=number.expand(-1, 2, -1, -1)
        )

    monkeypatch.setattr("lightningdrag.models.builtin.model.patched", numbered)
    monkeypatch.setattr("lightningdrag.models.builtin.outlines.LEAST_AREA", 1e9)  # no outlines
    edit = generate(BuiltinModel(random_network()), window, num_images=3)
    assert edit.origin is not None
    assert (edit.origin[:, :, 34, 50] == 1).all()
    assert (edit.colour[:, :, 34, 50] == 0.25).all()
    assert edit.origin[:, 0, 60, 5].tolist() == [1, 2, 3]


def test_where_nothing_stands_still_the_ground_is_what_moves() -> None:
    picture, none = torch.full((1, 3, 16, 16), 0.5), torch.zeros(1, 1, 16, 16)
    ground, _ = surroundings(picture, none, none + 1)
    torch.testing.assert_close(ground, picture)


def test_what_is_known_stays_and_the_rest_lies_between() -> None:
    image = torch.linspace(-1, 1, 30).expand(1, 3, 20, 30).contiguous()
    known = torch.ones(1, 1, 20, 30)
    known[..., 8:22] = 0
    filled = carried_on(image, known)
    assert torch.equal(filled[..., :8], image[..., :8])
    assert (filled[..., 8:22] > -1).all()
    assert (filled[..., 8:22] < 1).all()
    assert (carried_on(image, known * 0) == 0).all()


def test_what_stands_still_beside_a_hole_is_hidden_with_it() -> None:
    visibility, displacement = torch.ones(1, 1, 16, 32), torch.zeros(1, 2, 16, 32)
    visibility[..., 10:20] = 0
    displacement[:, 0, :, 20:] = -8  # what left the hole borders on it, and is no outline
    widened = without_outline(visibility, displacement)
    assert (widened[..., 8:20] == 0).all()
    assert (widened[..., :8] == 1).all()
    assert (widened[..., 20:] == 1).all()


def test_a_painter_that_has_learned_nothing_leaves_fills_to_the_surroundings(window: Tensor) -> None:
    network = random_network()
    torch.nn.init.zeros_(network.renderer.pixel_head.weight)
    torch.nn.init.zeros_(network.renderer.pixel_head.bias)
    plain = generate(BuiltinModel(network), window).colour
    assert plain.min() >= window.min() - 1e-4  # means of the source's own colours
    assert plain.max() <= window.max() + 1e-4


def test_a_fill_is_the_ground_or_the_thing_and_learns_at_honest_odds(window: Tensor) -> None:
    network = random_network()
    head = network.renderer.plain_head
    torch.nn.init.zeros_(head.weight)
    batch = BuiltinModel(network).batch(window, inputs(), 1)
    evidence, appearance = gather_evidence(batch), network.appearance(window)
    state = motion_prior(evidence)
    motion = network.motion(state, torch.ones(1), batch, evidence, appearance)
    noise = torch.zeros(1, NOISE_CHANNELS, HEIGHT // 4, WIDTH // 4)

    def fill(logit: float) -> Tensor:
        torch.nn.init.constant_(head.bias, 2 + logit)
        return network.renderer(motion, batch, evidence, appearance, noise).colour

    with torch.no_grad():
        ground, less, more, thing = (fill(logit) for logit in (-50, MORE - 1, MORE + 1, 50))
        assert not torch.allclose(ground, thing, atol=0.1)
        torch.testing.assert_close(less, ground, atol=0.01, rtol=0)
        torch.testing.assert_close(more, thing, atol=0.01, rtol=0)
        network.train()
        torch.testing.assert_close(fill(0.0), (ground + thing) / 2)


def test_a_hole_that_is_nowhere_certain_is_none_and_a_certain_one_keeps_its_unsure_rim() -> None:
    logits = torch.full((1, 1, 64, 96), 5.0)
    logits[..., 8:24, 8:24] = -DOUBT - 0.5  # nowhere certain
    logits[..., 40:48, 4:92] = -DOUBT - 0.5  # a long one that is certain at one end
    logits[..., 42:46, 4:8] = -CERTAIN - 0.5
    kept = without_weak_holes(logits)
    assert (kept[..., 8:24, 8:24] == 0).all()
    assert torch.equal(kept[..., 32:, :], logits[..., 32:, :])
    assert torch.equal(kept[logits > 0], logits[logits > 0])
