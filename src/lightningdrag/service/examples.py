"""The example photos that come with the package, for people who have none at hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from PIL import Image

from lightningdrag.request import EditRequest
from lightningdrag.service.schema import API, ExampleRecord

TITLES = {
    "astronaut": ("The astronaut leans her head", "Eileen Collins, NASA, public domain"),
    "chelsea": ("The cat turns its nose", "Stéfan van der Walt, CC0"),
    "coffee": ("The spoon moves", "Rachel Michetti, Pikolo Espresso Bar, CC0"),
    "rocket": ("The rocket grows", "SpaceX, public domain"),
}
_HERE = Path(__file__).parent / "examples"
FOLDER = _HERE if _HERE.is_dir() else Path(__file__).parents[3] / "examples"
"""In an installed package, or in the repository."""


def photo_path(name: str) -> Path | None:
    """An example's photo, if there is one of this name."""
    path = FOLDER / f"{name}.jpg"
    return path if name in TITLES and path.is_file() else None


def load_examples() -> list[ExampleRecord]:
    """All that are here, with the edit that shows them well."""
    return [_load(name) for name in TITLES if photo_path(name)]


def _load(name: str) -> ExampleRecord:
    path = FOLDER / f"{name}.jpg"
    with Image.open(path) as image:
        width, height = image.size
    request = replace(EditRequest.load(path.with_suffix(".json")), image=None)
    title, credit = TITLES[name]
    return ExampleRecord(
        name=name,
        title=title,
        photo=f"{API}/examples/{name}",
        width=width,
        height=height,
        credit=credit,
        request=json.loads(request.to_json()),
    )
