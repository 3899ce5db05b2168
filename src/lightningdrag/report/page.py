"""What a page consists of, and the page as one file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from lightningdrag.files import write_atomically

JPEG_QUALITY = 85


def data_uri(image: Image.Image | np.ndarray, longest: int | None = None, lossless: bool = False) -> str:
    """An image as a ``data:`` URI, for pages that hold their pictures.

    Args:
        image: PIL, or ``(H, W)`` or ``(H, W, 3)`` uint8.
        longest: shrink to this many pixels on the longer side; None keeps the size.
        lossless: PNG instead of JPEG.
    """
    picture = (image if isinstance(image, Image.Image) else Image.fromarray(image)).convert("RGB")
    if longest is not None:
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    if lossless:
        picture.save(encoded, format="PNG", optimize=True)
    else:
        picture.save(encoded, format="JPEG", quality=JPEG_QUALITY)
    return _uri("image/png" if lossless else "image/jpeg", encoded.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Table:
    """A table; a tap on a column's head sorts by it.

    Attributes:
        head: titles of the columns; the first column names the rows.
        rows: cells, as text. They sort by the first number in them if they have one, "∞" above all.
        marked: indices of rows to set off.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    marked: frozenset[int] = frozenset()
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Picture:
    """One image; ``uri`` as :func:`data_uri` makes it."""

    uri: str
    caption: str = ""
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True)
class Plot:
    """An SVG, as :mod:`lightningdrag.report.plots` draws it."""

    svg: bytes
    caption: str = ""
    kind: ClassVar[str] = "plot"

    @property
    def uri(self) -> str:
        return _uri("image/svg+xml", self.svg)  # in an image no two plots can disturb each other


@dataclass(frozen=True)
class Edit:
    """One edit in a gallery: pictures of one size, drags over them, and figures to sort by.

    Attributes:
        name: of the photo.
        before: the source, a ``data:`` URI.
        after: results by method, ``data:`` URIs; methods may differ from edit to edit.
        size: (width, height) in pixels that ``drags`` are given in.
        drags: (handle, target), each (x, y).
        values: figures by name, to sort by and to show; NaN is left out.
    """

    name: str
    before: str
    after: Mapping[str, str]
    size: tuple[int, int]
    drags: Sequence[tuple[Sequence[float], Sequence[float]]] = ()
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def unit(self) -> float:
        """What the marks are measured in: about 6 px of a screen, for every picture is as wide."""
        return self.size[0] / 60

    @property
    def arrows(self) -> list[str]:
        """The outlines of the drags' arrows, as an SVG polygon's points; pins have none."""
        return [_arrow(handle, target, self.unit) for handle, target in self.drags if handle != target]


def _arrow(handle: Sequence[float], target: Sequence[float], unit: float) -> str:
    """An arrow from a handle to the target itself; a short drag is all head, never too small to see."""
    length = math.dist(handle, target)
    head = min(2 * unit, max(length, 1.3 * unit))
    neck = length - head
    outline = [(min(0.0, neck), 0.2 * head), (neck, 0.15 * head), (neck, head / 2), (length, 0.0)]
    outline += [(along, -across) for along, across in reversed(outline[:-1])]
    x, y = ((b - a) / length for a, b in zip(handle, target, strict=True))
    return " ".join(
        f"{handle[0] + along * x - across * y:.2f},{handle[1] + along * y + across * x:.2f}"
        for along, across in outline
    )


@dataclass(frozen=True)
class Gallery:
    """Edits with a slider between before and after, a choice of method, and a choice of order.

    Attributes:
        extra: figures that are shown only while they sort.
    """

    edits: Sequence[Edit]
    caption: str = ""
    extra: frozenset[str] = frozenset()
    kind: ClassVar[str] = "gallery"

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(method for edit in self.edits for method in edit.after))

    @property
    def keys(self) -> list[str]:
        return list(dict.fromkeys(key for edit in self.edits for key in edit.values))


Part = Text | Table | Picture | Plot | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and what is under it."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        lead: what this is, in a sentence or two.
        about: where it comes from: command, commit, machine, settings.
    """

    title: str
    sections: Sequence[Section]
    lead: str = ""
    about: Mapping[str, str] = field(default_factory=dict)


def render_page(page: Page) -> str:
    """The page as one HTML document that fetches nothing."""
    environment = Environment(
        loader=PackageLoader("lightningdrag.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(page=page)


def write_page(page: Page, path: Path) -> None:
    """Write the page, whole or not at all; makes the folder.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, render_page(page).encode())
