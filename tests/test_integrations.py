"""The ComfyUI node and the Gradio app load, and edit as the library does."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from lightningdrag import DragEditor

INTEGRATIONS = Path(__file__).parents[1] / "integrations"
DRAG = [[[30, 32], [42, 32]]]


def load(path: Path, name: str) -> ModuleType:
    """A module from a file, as ComfyUI and Spaces load it: not from the installed packages."""
    spec = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=[str(path.parent)] if path.name == "__init__.py" else None
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def image() -> torch.Tensor:
    """``(2, 64, 80, 3)`` in [0, 1]: noise, on which every motion shows."""
    small = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    large = torch.nn.functional.interpolate(small, size=(64, 80), mode="bilinear")
    return (large.permute(0, 2, 3, 1) * 255).round() / 255


@pytest.fixture
def node() -> object:
    package = load(INTEGRATIONS / "comfyui" / "__init__.py", "comfyui_lightningdrag")
    assert (INTEGRATIONS / "comfyui" / package.WEB_DIRECTORY / "lightningdrag.js").is_file()
    return package.NODE_CLASS_MAPPINGS["LightningDrag"]()


def test_the_comfyui_node_edits_each_image_as_the_library_does(node, image: torch.Tensor) -> None:
    edited, masks = node.drag(image, json.dumps(DRAG), "builtin", seed=3)["result"]
    assert edited.shape == image.shape
    assert masks.shape == image.shape[:3]
    pixels = (image[1] * 255).round().to(torch.uint8).numpy()
    expected = DragEditor.from_pretrained("builtin").edit(pixels, DRAG, seed=3)
    assert np.array_equal((edited[1] * 255).round().to(torch.uint8).numpy(), np.array(expected.image))
    assert np.array_equal(masks[1].bool().numpy(), expected.mask)


def test_the_comfyui_node_keeps_to_a_mask(node, image: torch.Tensor) -> None:
    mask = torch.zeros(1, 64, 80)
    mask[:, 16:48, 16:64] = 1
    edited, used = node.drag(image, json.dumps(DRAG), "builtin", seed=0, mask=mask)["result"]
    assert torch.equal(used, mask.expand(2, -1, -1))
    outside = mask[0] == 0
    assert torch.allclose(edited[:, outside], image[:, outside])
    assert not torch.allclose(edited[:, ~outside], image[:, ~outside])


def test_the_comfyui_node_passes_images_without_drags(node, image: torch.Tensor) -> None:
    edited, masks = node.drag(image, "[]", "builtin", seed=0)["result"]
    assert torch.equal(edited, image)
    assert not masks.any()


def test_the_comfyui_node_names_what_is_wrong(node, image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="outside the photo of 80x64"):
        node.drag(image, "[[[30, 32], [300, 32]]]", "builtin", seed=0)


def test_the_comfyui_nodes_inputs_are_the_arguments_of_its_function(node) -> None:
    inputs = node.INPUT_TYPES()
    names = [*inputs["required"], *inputs["optional"]]
    function = getattr(node, node.FUNCTION).__func__
    assert list(function.__code__.co_varnames[1 : function.__code__.co_argcount]) == names


def test_the_comfyui_script_is_a_module() -> None:
    if shutil.which("node") is None:
        pytest.skip("no node here to parse it")
    script = (INTEGRATIONS / "comfyui" / "web" / "lightningdrag.js").read_text()
    command = ["node", "--input-type=module", "--check"]
    done = subprocess.run(command, input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_gradio_app_edits_by_clicks() -> None:
    gradio = pytest.importorskip(
        "gradio", reason="gradio is not among the test requirements: it holds pillow back"
    )
    app = load(INTEGRATIONS / "gradio" / "app.py", "gradio_lightningdrag")
    assert isinstance(app.build(), gradio.Blocks)
    photo = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    arrows, points = app.clicked(photo, [], gradio.SelectData(None, {"index": [30, 32], "value": None}))
    assert arrows.shape == photo.shape
    _, points = app.clicked(photo, points, gradio.SelectData(None, {"index": [42, 32], "value": None}))
    edited = app.run(photo, points, 0)
    assert edited.shape == photo.shape
    assert not np.array_equal(edited, photo)
    with pytest.raises(gradio.Error):
        app.run(photo, points[:1], 0)
