"""Report pages: one file that fetches nothing, escapes what it is given, and holds what it was given."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from lightningdrag.report import (
    Edit,
    Gallery,
    Page,
    Picture,
    Plot,
    Section,
    Table,
    Text,
    data_uri,
    plots,
    render_page,
    write_page,
)

RED = np.full((20, 40, 3), (200, 30, 30), np.uint8)


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def page_of(*parts: object) -> str:
    return render_page(Page("Title", [Section("Results", parts)]))  # type: ignore[arg-type]


def test_pictures_are_held_in_the_page_shrunk_if_asked() -> None:
    assert np.asarray(decoded(data_uri(RED, lossless=True))).tolist() == RED.tolist()
    assert decoded(data_uri(RED, longest=10)).size == (10, 5)
    assert decoded(data_uri(RED, longest=400)).size == (40, 20)
    assert data_uri(RED).startswith("data:image/jpeg;base64,")


def test_a_page_fetches_nothing() -> None:
    edit = Edit("a", data_uri(RED), {"ours": data_uri(RED)}, (40, 20))
    page = page_of(Text("t"), Picture(data_uri(RED)), Plot(plots.bars({"a": 1.0}, "x")), Gallery([edit]))
    assert set(re.findall(r'(?:src|href)="(\w+:)', page)) == {"data:"}
    assert not re.search(r"url\(|@import|https?://", page)


def test_text_from_outside_is_escaped() -> None:
    hostile = '<script>alert("x")</script>'
    edit = Edit(hostile, data_uri(RED), {hostile: data_uri(RED)}, (40, 20), values={hostile: 1.0})
    page = render_page(
        Page(
            hostile,
            [
                Section(
                    hostile,
                    [Text(hostile), Table([hostile], [[hostile]], hostile), Gallery([edit], hostile)],
                )
            ],
            hostile,
            {hostile: hostile},
        )
    )
    assert hostile not in page
    assert page.count("<script>") == 1


def test_a_table_keeps_its_cells_in_order_and_marks_rows() -> None:
    page = page_of(Table(["method", "PSNR"], [["identity", "15.8"], ["ours", "17.6"]], marked=frozenset({1})))
    cells = re.findall(r"<t[hd](?: scope=\"row\")?>([^<]+)</t[hd]>", page)
    assert cells == ["identity", "15.8", "ours", "17.6"]
    assert re.findall(r'<tr class="marked"><th scope="row">(\w+)', page) == ["ours"]


def test_a_gallery_shows_arrows_methods_and_only_defined_figures() -> None:
    edits = [
        Edit("a", data_uri(RED), {"ours": data_uri(RED)}, (40, 20), [((1, 2), (30, 4))], {"PSNR": 17.5}),
        Edit("b", data_uri(RED), {"warp": data_uri(RED)}, (40, 20), values={"PSNR": float("nan"), "x": 1.0}),
    ]
    page = page_of(Gallery(edits, extra=frozenset({"x"})))
    assert re.findall(r'<span data-extra="x" hidden>x <b>1</b>', page), "shown only while it sorts"
    assert re.findall(r"<option>(\w+)</option>", page) == ["ours", "warp", "PSNR", "x"]
    assert re.findall(r'data-values="([^"]*)"', page) == ["PSNR=17.5;", "x=1.0;"]
    assert page.count("<polygon") == page.count("<circle") == 1


def test_an_arrow_starts_at_the_handle_and_its_head_ends_at_the_target_whatever_its_length() -> None:
    def outline(target: tuple[float, float]) -> np.ndarray:
        (arrow,) = Edit("a", "", {}, (120, 80), [((10, 20), target)]).arrows
        return np.array([point.split(",") for point in arrow.split()], float)

    long, short = outline((10, 60)), outline((10, 21))
    assert long[3].tolist() == [10, 60], "the tip"
    assert long[:, 1].min() == 20
    head = long[:, 0].max() - 10
    assert head == 2, "half as wide as it is long, two units of 1/60 of the width"
    assert long[2].tolist() == [8, 56] or long[2].tolist() == [12, 56]
    assert short[3].tolist() == [10, 21]
    assert np.ptp(short[:, 1]) == pytest.approx(2.6), (
        "a head that can be seen, though it starts before the handle"
    )
    assert Edit("a", "", {}, (120, 80), [((10, 20), (10, 20))]).arrows == [], "a pin"


def test_plots_are_drawn_alike_each_time_with_their_labels_as_text() -> None:
    drawn = {
        "scatter": lambda: plots.scatter({"ours": (1.0, 2.0)}, "seconds", "gain", log_x=True),
        "lines": lambda: plots.lines({"ours": ([1, 2], [3, 4]), "b": ([1], [2])}, "seconds", "gain"),
        "histogram": lambda: plots.histogram([1.0, 2.0, float("nan")], "seconds", "gain"),
    }
    for name, draw in drawn.items():
        svg = draw()
        assert svg == draw(), name
        texts = {(t.text or "").strip() for t in ElementTree.fromstring(svg).iter() if t.tag.endswith("text")}
        assert {"seconds", "gain"} <= texts, name


def test_a_page_is_written_whole_into_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_page(Page("Title", []), path)
    assert path.read_text().startswith("<!doctype html>")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_point_left_out_changes_no_others_look() -> None:
    both = plots.scatter({"a": (1.0, 2.0), "b": (2.0, 3.0)}, "x", "y").decode()
    one = plots.scatter({"a": (float("nan"), 2.0), "b": (2.0, 3.0)}, "x", "y").decode()
    first, second = plots.COLOURS[:2]
    assert first in both
    assert first not in one
    assert second in one
