"""The automatic mask: the room around a pull, then what follows it."""

from __future__ import annotations

import numpy as np
from editor_page import ASIDE, EXAMPLES, FOLLOWING, NOSE, EditorPage
from PIL import Image

from lightningdrag.editor import DragEditor


def test_once_a_pull_rests_the_mask_is_what_follows(editor: EditorPage) -> None:
    editor.open()
    held: list = []
    editor.page.route("**/mask?*", lambda route: held.append(route))
    editor.pull(NOSE, ASIDE)
    near = editor.page.evaluate("lightningdrag.editor.plan.mask")
    editor.page.unroute("**/mask?*")
    for route in held:
        route.continue_()
    editor.until(FOLLOWING)
    editor.screenshot("following")
    shown = editor.page.evaluate("lightningdrag.editor.plan.mask")
    assert (shown["width"], shown["height"]) != (near["width"], near["height"])
    mask = np.reshape(shown["data"], (shown["height"], shown["width"])) >= 128
    source = np.array(Image.open(EXAMPLES / "chelsea.jpg"))
    drags = [(drag["handle"], drag["target"]) for drag in editor.drags]
    used = DragEditor.from_pretrained("builtin").open(source).mask_for(drags)
    assert mask.shape == used.shape  # a photo smaller than masks are sent
    assert (mask != used).mean() < 0.01  # numbers of threads may differ
    editor.press("i")  # a drawn mask is begun from it
    drawn = editor.state["mask"]
    assert abs(sum(drawn["runs"][1::2]) / np.prod(drawn["size"]) - (1 - mask.mean())) < 0.02
    editor.press("x")
    editor.offline = True
    editor.page.route("**/mask?*", lambda route: route.abort())
    editor.pull((100, 80), (110, 90))
    assert editor.page.evaluate("lightningdrag.editor.plan.mask.width") == near["width"]
    editor.page.unroute("**/mask?*")  # a lost connection is found again
    editor.until(FOLLOWING)


def test_a_run_before_the_pull_rests_brings_the_mask_along(editor: EditorPage) -> None:
    editor.open()
    editor.offline = True
    editor.page.route("**/sessions/*/mask?*", lambda route: route.abort())
    editor.pull(NOSE, ASIDE)
    editor.run()
    assert editor.page.evaluate(FOLLOWING)
    assert editor.page.evaluate("lightningdrag.editor.plan.mask === lightningdrag.editor.found.mask")


def test_a_pull_on_a_result_waits_until_the_server_has_kept_it(editor: EditorPage) -> None:
    editor.open()
    editor.pull(NOSE, ASIDE)
    editor.run()
    uploads: list[str] = []
    held: list = []
    editor.page.on("request", lambda asked: uploads.append(asked.url) if asked.method == "POST" else None)
    editor.page.route("**/rounds", lambda route: held.append(route))
    editor.pull((100, 80), (110, 90))
    editor.page.wait_for_timeout(600)  # longer than a pull has to rest
    assert [url.rsplit("/", 1)[1] for url in uploads] == ["rounds"]
    for route in held:
        route.continue_()
    editor.until(FOLLOWING)
    assert not any(url.endswith("/sessions") for url in uploads)


def test_a_mask_that_another_model_found_is_not_shown(editor: EditorPage) -> None:
    editor.open()
    editor.pull(NOSE, ASIDE)
    editor.until(FOLLOWING)
    width = editor.page.evaluate("lightningdrag.editor.plan.mask.width")
    editor.offline = True
    editor.page.route("**/mask?*", lambda route: route.abort())
    editor.page.evaluate(
        "lightningdrag.editor.set({settings: {...lightningdrag.editor.settings, model: 'warp'}})"
    )
    assert editor.page.evaluate("lightningdrag.editor.plan.mask.width") != width
