"""The page's live preview is the analytic warp of ``warp.py``, to within a pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import CHROMIUM
from editor_page import EditorPage

from lightningdrag.drag import Drag
from lightningdrag.masks import derive_mask, distance_to_rim
from lightningdrag.warp import drag_displacement, rim_anchors

RANDOM = [
    (512, 512, 1),
    (512, 512, 5),
    (1200, 800, 2),
    (300, 900, 8),
]


def displacement(drags: list[Drag], mask: np.ndarray) -> np.ndarray:
    """``(H, W, 2)`` as the package computes it, at full size."""
    handles, targets, anchors = (
        torch.tensor(np.array(points), dtype=torch.float32)[None]
        for points in ([d.handle for d in drags], [d.target for d in drags], rim_anchors(mask))
    )
    field = drag_displacement(handles, targets, anchors, torch.from_numpy(mask)[None, None])
    return field[0].permute(1, 2, 0).numpy()


def some_drags(width: int, height: int, count: int) -> list[Drag]:
    random = np.random.default_rng(width + count)
    handles = random.uniform(0.2, 0.8, (count, 2)) * [width, height]
    targets = np.clip(handles + random.normal(0, 0.08, (count, 2)) * min(width, height), 1, 10_000)
    targets = np.minimum(targets, [width - 2, height - 2])
    return [Drag(tuple(h), tuple(t)) for h, t in zip(handles.round(1), targets.round(1), strict=True)]


def as_json(drags: list[Drag]) -> list[dict]:
    return [{"handle": list(drag.handle), "target": list(drag.target)} for drag in drags]


@pytest.mark.parametrize(("width", "height", "count"), RANDOM)
def test_the_field_is_that_of_the_package(editor: EditorPage, width: int, height: int, count: int) -> None:
    drags = some_drags(width, height, count)
    mask = derive_mask(drags, width, height)
    expected = displacement(drags, mask)[::8, ::8]
    values = editor.page.evaluate(
        """async ([width, height, drags]) => {
          const { planPreview } = await import("/js/preview.js");
          const { displacementAt } = await import("/js/field.js");
          const { rim } = planPreview({ width, height }, drags, null);
          const values = [];
          for (let y = 0; y < height; y += 8)
            for (let x = 0; x < width; x += 8) values.push(displacementAt(drags, rim, [x, y]));
          return values;
        }""",
        [width, height, as_json(drags)],
    )
    error = np.linalg.norm(np.reshape(values, expected.shape) - expected, axis=-1)
    assert np.linalg.norm(expected, axis=-1).max() > 5  # there is a warp to compare
    assert error[mask[::8, ::8]].max() < 1


@pytest.mark.parametrize(("module", "name"), [("renderer", "Renderer"), ("plain", "PlainRenderer")])
def test_the_picture_is_warped_by_that_field(editor: EditorPage, module: str, name: str) -> None:
    """A photo whose colours are its coordinates shows where every pixel came from."""
    side, drags = 256, [Drag((100, 120), (130, 112)), Drag((180, 180), (180, 180))]
    mask = derive_mask(drags, side, side)
    expected = displacement(drags, mask)
    pixels = editor.page.evaluate(
        """async ([side, drags, module, name]) => {
          const { [name]: Renderer } = await import(`/js/${module}.js`);
          const { planPreview } = await import("/js/preview.js");
          const colours = new ImageData(side, side);
          for (let y = 0; y < side; y++)
            for (let x = 0; x < side; x++) colours.data.set([x, y, 0, 255], 4 * (y * side + x));
          const canvas = document.createElement("canvas");
          canvas.width = canvas.height = side;
          const renderer = new Renderer(canvas);
          renderer.setImage("photo", await createImageBitmap(colours, { colorSpaceConversion: "none" }));
          const { mask, rim } = planPreview({ width: side, height: side }, drags, null);
          renderer.setMask(mask);
          renderer.setWarp(drags, rim);
          renderer.draw({ size: [side, side], origin: [0, 0], scale: 1, divide: -1, dim: 0 });
          const copy = new OffscreenCanvas(side, side).getContext("2d");
          copy.drawImage(canvas, 0, 0);
          return [...copy.getImageData(0, 0, side, side).data];
        }""",
        [side, as_json(drags), module, name],
    )
    seen = np.reshape(pixels, (side, side, 4))[..., :2]
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1)
    inner = distance_to_rim(mask) > 3  # nearer the rim the preview fades, as the editor does
    error = np.linalg.norm(seen - grid - expected, axis=-1)
    assert np.linalg.norm(expected, axis=-1)[inner].max() > 15
    assert error[inner].max() < 1.5  # a pixel, and the rounding of colours
    assert np.array_equal(seen[~mask], grid[~mask])


def test_drawing_only_what_changes_leaves_no_trace(editor: EditorPage) -> None:
    editor.open()
    editor.pull((262, 232), (180, 240))
    editor.pull((180, 240), (262, 200))  # far, and back: the mask grows and shrinks
    editor.pull((100, 80), (110, 90))
    seen = editor.canvas()
    editor.page.evaluate("lightningdrag.scene.renderer.redrawAll(), lightningdrag.scene.draw()")
    assert np.array_equal(editor.canvas(), seen)


def test_without_webgl_the_photo_follows_all_the_same(browser, server) -> None:
    plain = browser.browser_type.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-3d-apis"])
    editor = EditorPage(plain.new_page(viewport={"width": 960, "height": 640}), server.address)
    assert editor.page.evaluate("document.createElement('canvas').getContext('webgl2')") is None
    editor.open()
    photo = editor.canvas().astype(int)
    editor.press("m")
    editor.pull((262, 232), (236, 240))
    preview = editor.canvas().astype(int)
    assert np.abs(preview - photo).max() > 60
    editor.press("m")
    editor.screenshot("without-webgl")
    editor.run()
    assert np.abs(editor.canvas() - preview).max() > 20
    editor.press("s")
    editor.page.evaluate("lightningdrag.editor.set({ divide: 1 })")
    assert np.abs(editor.canvas() - photo).mean() < 0.1  # but for the photo's very edge
    assert editor.complaints == []
    plain.close()
