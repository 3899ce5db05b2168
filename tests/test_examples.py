"""The example photos, their requests and results, and the pictures that are made of edits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightningdrag.drag import Drag
from lightningdrag.draw import draw_drags, side_by_side
from lightningdrag.request import EditRequest

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))


def test_there_are_at_least_six_examples_and_each_is_credited() -> None:
    assert len(NAMES) >= 6
    credits = (EXAMPLES / "README.md").read_text()
    for name in NAMES:
        assert f"| `{name}.jpg` |" in credits


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_a_request_that_fits_its_photo(name: str) -> None:
    request = EditRequest.load(EXAMPLES / f"{name}.json")
    photo = Image.open(EXAMPLES / f"{name}.jpg")
    assert request.image == f"{name}.jpg"
    assert max(photo.size) <= 1024
    fitted, notes = request.fitted(*photo.size)
    assert notes == []
    assert fitted.mask is not None
    assert any(not drag.is_pin for drag in request.drags)
    for drag in request.drags:
        for x, y in (drag.handle, drag.target):
            assert fitted.mask[round(y), round(x)], f"{(x, y)} is outside the mask"


@pytest.mark.parametrize("name", NAMES)
def test_an_example_has_a_result_of_its_size_that_differs_from_it(name: str) -> None:
    photo = Image.open(EXAMPLES / f"{name}.jpg").convert("RGB")
    result = Image.open(EXAMPLES / "results" / f"{name}.jpg").convert("RGB")
    assert result.size == photo.size
    mask = EditRequest.load(EXAMPLES / f"{name}.json").mask
    assert mask is not None
    change = np.abs(np.asarray(photo, int) - np.asarray(result, int)).max(axis=2)
    assert change[mask].mean() > 4
    assert change[~mask].mean() < 4  # JPEG


def test_the_demo_writes_results_and_sheets(tmp_path: Path) -> None:
    words = [sys.executable, str(EXAMPLES / "demo.py"), "--model", "warp"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = sorted(path.name for path in (tmp_path / "out" / "demo").iterdir())
    assert len(written) == 6
    for result, sheet in zip(written[1::2], written[::2], strict=True):
        assert sheet == result.replace(".jpg", "-sheet.png")
        assert result in {f"{name}.jpg" for name in NAMES}
        assert f"{result.removesuffix('.jpg')}: " in done.stdout
    assert "The results are in out/demo" in done.stdout


def test_drags_are_drawn_where_they_are() -> None:
    grey = Image.new("RGB", (100, 80), (100, 100, 100))
    mask = np.zeros((80, 100), bool)
    mask[10:70, 10:90] = True
    drawn = np.asarray(draw_drags(grey, [Drag((30, 40), (70, 40)), Drag((50, 20), (50, 20))], mask))
    assert drawn.shape == (80, 100, 3)
    red, blue = drawn[40, 30].astype(int), drawn[40, 70].astype(int)
    assert red[0] > red[2]  # the handle
    assert blue[2] > blue[0]  # the target
    assert (drawn[40, 50] < 60).all()  # the shaft between them
    assert (drawn[3, 3] == 55).all()  # outside the mask
    assert (drawn[10, 50] > 200).all()  # the outline
    assert (drawn[60, 50] == 100).all()  # inside, untouched
    assert (np.asarray(grey) == 100).all()


def test_side_by_side_keeps_aspects_and_titles_each() -> None:
    images = [Image.new("RGB", (40, 20), "red"), Image.new("RGB", (40, 40), "blue")]
    assert side_by_side(images, gap=5).size == (40 + 5 + 20, 20)
    titled = side_by_side(images, ["a", "b"], gap=5)
    assert titled.width == 65
    assert titled.height > 20
    with pytest.raises(ValueError, match="1 titles for 2 images"):
        side_by_side(images, ["a"])
