"""From a photo to a saved result, with a mouse, a keyboard, and fingers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from editor_page import ASIDE, EXAMPLES, FOLLOWING, NOSE, SHOWN, EditorPage
from PIL import Image

from lightningdrag.drag import Drag
from lightningdrag.editor import DragEditor
from lightningdrag.request import EditRequest


def test_pulling_running_undoing_and_a_second_round(editor: EditorPage) -> None:
    editor.open()
    photo = editor.canvas()
    editor.press("m")  # the mask is not drawn over what is compared
    editor.pull(NOSE, ASIDE)
    assert np.allclose(editor.drags[0]["handle"], NOSE, atol=0.5)
    assert np.abs(editor.canvas().astype(int) - photo).max() > 60  # it follows at once
    editor.until(FOLLOWING)
    preview = editor.canvas()

    editor.run()
    result = editor.canvas()
    assert np.abs(result.astype(int) - preview).max() > 20

    editor.press("Control+z")
    assert editor.state["proposal"] is None
    assert np.array_equal(editor.canvas(), preview)
    editor.press("Control+Shift+Z")
    assert np.array_equal(editor.canvas(), result)

    first = editor.state["photo"]
    editor.click("Keep")
    assert editor.state["photo"] != first
    assert editor.drags == []
    editor.pull((150, 120), (162, 110))
    editor.run()
    editor.pull(ASIDE, NOSE)  # to pull on a result is to keep it
    assert editor.page.locator("#rounds button").count() == 3
    editor.page.locator("#rounds button").first.click()
    assert editor.state["photo"] == first


def test_a_run_says_how_far_it_is(editor: EditorPage) -> None:
    editor.open()
    editor.page.evaluate(  # an edit of one step can be over before its label is drawn
        "lightningdrag.editor.set({settings: {...lightningdrag.editor.settings, num_images: 4, steps: 12}})"
    )
    editor.pull(NOSE, ASIDE)
    editor.run()
    steps = [label.split() for label in editor.seen if label.startswith("Step ")]
    numbers = [int(number) for _, number, _, _ in steps]
    assert numbers
    assert numbers == sorted(numbers)
    assert all(steps_in_all == "12" for *_, steps_in_all in steps)


def test_what_is_saved_is_the_photo_but_for_the_mask(editor: EditorPage) -> None:
    editor.open()
    editor.pull(NOSE, ASIDE)
    editor.run()
    saved = np.array(Image.open(io.BytesIO(editor.download("PNG"))))
    source = np.array(Image.open(EXAMPLES / "chelsea.jpg"))
    request = EditRequest.from_json(editor.download("The edit, JSON"))
    may_change = DragEditor.from_pretrained("builtin").open(source).mask_for(request.drags)
    may_change = cv2.dilate(may_change.astype(np.uint8), np.ones((3, 3))) > 0  # numbers of threads may differ
    assert saved.shape == source.shape
    assert np.array_equal(saved[~may_change], source[~may_change])
    assert not np.array_equal(saved[may_change], source[may_change])
    assert request.seed is not None
    for name, kind in (("JPEG", "JPEG"), ("WebP", "WEBP"), ("Animation, WebP", "WEBP")):
        picture = Image.open(io.BytesIO(editor.download(name)))
        assert (picture.format, picture.size) == (kind, (451, 300))


def test_after_saving_enter_keeps_and_a_kept_picture_has_no_edit_to_save(editor: EditorPage) -> None:
    editor.open()
    editor.pull(NOSE, ASIDE)
    editor.run()
    editor.download("JPEG")
    editor.press("Enter")
    editor.wait("edit")
    assert editor.drags == []
    editor.click("Save")
    editor.click("The edit, JSON")
    editor.page.get_by_text("undo first").wait_for()


def test_the_picture_and_the_edit_are_copied(editor: EditorPage, context) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    editor.open()
    editor.pull(NOSE, ASIDE)
    editor.click("Save")
    editor.click("Copy the edit")
    editor.page.get_by_text("Copied.").wait_for()
    copied = editor.page.evaluate("navigator.clipboard.readText()")
    (drag,) = EditRequest.from_json(copied).drags
    assert np.allclose(drag.target, ASIDE, atol=1)
    editor.page.get_by_role("button", name="Dismiss").click()
    editor.click("Save")
    editor.click("Copy the picture")
    editor.page.get_by_text("Copied.").wait_for()
    size = editor.page.evaluate(
        """async () => {
          const [item] = await navigator.clipboard.read();
          const { width, height } = await createImageBitmap(await item.getType("image/png"));
          return [width, height];
        }"""
    )
    assert size == [451, 300]


def test_escape_closes_a_menu_and_leaves_the_result(editor: EditorPage) -> None:
    editor.open()
    editor.pull(NOSE, ASIDE)
    editor.run()
    editor.click("Save")
    editor.press("Escape")
    assert not editor.page.locator("#save-menu").is_visible()
    assert editor.state["proposal"] is not None


def test_settings_of_a_saved_edit_are_not_those_of_the_next_photo(editor: EditorPage, tmp_path) -> None:
    saved = tmp_path / "edit.json"
    saved.write_text(EditRequest((Drag(NOSE, ASIDE),), num_images=2, seed=7).to_json())
    editor.page.locator("#file").set_input_files([EXAMPLES / "chelsea.jpg", saved])
    editor.wait("edit")
    editor.click("Settings")
    editor.page.get_by_role("spinbutton", name="Steps").fill("2")
    editor.press("Escape")
    options = editor.page.evaluate("lightningdrag.editor.settings")
    assert (options["num_images"], options["seed"], options["steps"]) == (2, 7, 2)
    editor.open("coffee.jpg")
    editor.until("document.title.startsWith('coffee.jpg')")
    options = editor.page.evaluate("lightningdrag.editor.settings")
    assert (options["num_images"], options["seed"], options["steps"]) == (1, None, 2)


def test_settings_that_are_no_whole_numbers_are_used(editor: EditorPage) -> None:
    editor.open()
    editor.click("Settings")
    assert not editor.page.get_by_label("Guidance").is_visible()  # of no use to this model
    editor.page.get_by_role("spinbutton", name="Longest step").fill("12.5")
    editor.press("Escape")
    editor.pull(NOSE, ASIDE)
    editor.run()
    options = json.loads(editor.download("The edit, JSON"))["options"]
    assert (options["guidance"], options["max_step"]) == (None, 12.5)


def test_a_saved_edit_is_opened_again(editor: EditorPage, tmp_path) -> None:
    saved = tmp_path / "edit.json"
    saved.write_text(EditRequest((Drag(NOSE, ASIDE),), num_images=2).to_json())
    editor.page.locator("#file").set_input_files([EXAMPLES / "chelsea.jpg", saved])
    editor.wait("edit")
    assert editor.drags == [{"handle": list(NOSE), "target": list(ASIDE)}]
    editor.run()
    assert editor.page.get_by_role("radio").count() == 2


def test_options_that_the_page_does_not_show_are_used_and_saved_again(editor: EditorPage, tmp_path) -> None:
    saved = tmp_path / "edit.json"
    hidden = {"guidance_schedule": "linear", "noise_prior": "mixed", "temperature": 0.5, "strict": True}
    saved.write_text(EditRequest((Drag(NOSE, ASIDE),), **hidden).to_json())
    editor.page.locator("#file").set_input_files([EXAMPLES / "chelsea.jpg", saved])
    editor.wait("edit")
    editor.run()
    options = json.loads(editor.download("The edit, JSON"))["options"]
    assert {name: options[name] for name in hidden} == hidden


def test_the_edit_of_a_kept_result_names_that_picture(editor: EditorPage) -> None:
    editor.open()
    editor.pull(NOSE, ASIDE)
    editor.run()
    assert EditRequest.from_json(editor.download("The edit, JSON")).image == "chelsea.jpg"
    editor.click("Keep")
    editor.pull(ASIDE, NOSE)
    assert EditRequest.from_json(editor.download("The edit, JSON")).image == "chelsea-dragged.png"
    editor.page.get_by_text("chelsea-dragged.png: save that as PNG, too").wait_for()
    editor.click("Run")
    editor.wait("result")
    assert EditRequest.from_json(editor.download("The edit, JSON")).image == "chelsea-dragged.png"


def test_more_candidates_follow_those_that_are_there(editor: EditorPage) -> None:
    editor.open("flower.jpg")
    editor.pull((320, 210), (380, 210))
    editor.run()
    editor.page.evaluate("lightningdrag.editor.set({ showMask: false })")  # another one for more
    first, seed = editor.canvas(), editor.state["proposal"]["request"]["options"]["seed"]
    editor.press("r")
    editor.until("lightningdrag.editor.state.proposal?.candidates.length === 4")
    editor.until(SHOWN)
    proposal = editor.state["proposal"]
    assert (proposal["chosen"], proposal["request"]["options"]["seed"]) == (0, seed)
    assert np.array_equal(editor.canvas(), first)
    editor.press("2")
    editor.until(SHOWN)
    assert np.abs(editor.canvas().astype(int) - first).mean() > 0.3
    editor.screenshot("candidates")


def test_a_film_is_of_the_result_shown(editor: EditorPage) -> None:
    editor.open()
    editor.page.evaluate(
        "lightningdrag.editor.set({settings: {...lightningdrag.editor.settings, num_images: 2}})"
    )
    editor.pull(NOSE, ASIDE)
    editor.run()
    editor.press("2")
    proposal = editor.state["proposal"]
    editor.click("Save")
    with editor.page.expect_download(timeout=180_000):
        with editor.page.expect_request(lambda asked: asked.url.endswith("/animations")) as asked:
            editor.click("Animation, WebP")
        editor.page.get_by_text("of the first candidate only").wait_for()
    assert f'"seed":{proposal["request"]["options"]["seed"]}' in asked.value.post_data
    assert editor.state["proposal"] == proposal
    editor.wait("result")


KEPT_PHOTOS = """() => new Promise((done) => {
  indexedDB.open("lightningdrag").onsuccess = ({ target: { result: database } }) => {
    database.transaction("photos").objectStore("photos").getAllKeys().onsuccess = ({ target }) => {
      database.close();
      done(target.result.length);
    };
  };
})"""


def test_results_that_neither_undo_nor_redo_reaches_are_dropped(editor: EditorPage) -> None:
    editor.open()
    editor.page.evaluate(
        "lightningdrag.editor.set({settings: {...lightningdrag.editor.settings, num_images: 2}})"
    )
    editor.pull(NOSE, ASIDE)
    for _ in range(3):
        editor.run()
        editor.page.wait_for_timeout(600)  # the pause before work is kept
        editor.press("Control+z")
    assert editor.page.evaluate("lightningdrag.editor.work.photos.size") == 3  # as opened, two to redo
    editor.page.wait_for_timeout(600)
    assert editor.page.evaluate(KEPT_PHOTOS) == 3
    editor.page.reload()
    editor.wait("edit")
    editor.press("Control+Shift+Z")
    editor.wait("result")
    editor.until(SHOWN)


def test_ends_are_moved_and_removed(editor: EditorPage) -> None:
    editor.open()
    editor.pull(NOSE, ASIDE)
    editor.pull(ASIDE, (230, 200))
    assert len(editor.drags) == 1
    assert np.allclose(editor.drags[0]["target"], (230, 200), atol=1)
    editor.press("p")
    editor.page.mouse.click(*editor.at(100, 100))
    assert editor.drags[1]["handle"] == editor.drags[1]["target"]
    editor.page.mouse.click(*editor.at(230, 200), button="right")
    assert len(editor.drags) == 1
    editor.press("Control+z")
    assert len(editor.drags) == 2
    editor.press("n", "Delete")
    assert len(editor.drags) == 1


def test_the_mask_is_painted_erased_inverted_and_left_to_the_editor_again(editor: EditorPage) -> None:
    editor.open()
    kind = editor.page.locator("#mask-kind")
    assert kind.text_content() == "Mask: none yet"
    editor.pull(NOSE, ASIDE)
    assert kind.text_content() == "Mask: automatic"
    editor.press("b")
    editor.pull((60, 60), (120, 60))
    assert kind.text_content() == "Mask: drawn"
    painted = editor.state["mask"]["runs"]
    size = editor.page.evaluate("lightningdrag.editor.brush")
    editor.press("]")
    assert editor.page.evaluate("lightningdrag.editor.brush") > size
    cursor = "document.querySelector('#canvas').style.cursor"
    assert editor.page.evaluate(cursor) == "none"  # the circle is the brush's
    editor.press("h")
    assert editor.page.evaluate(cursor) == "grab"
    editor.press("e")
    editor.pull((60, 60), (120, 60))
    assert sum(editor.state["mask"]["runs"][1::2]) < sum(painted[1::2])
    editor.press("Control+z", "i")
    width, height = editor.state["mask"]["size"]
    assert sum(painted[1::2]) + sum(editor.state["mask"]["runs"][1::2]) == width * height
    editor.press("Control+z", "d")
    editor.run()  # with the mask as drawn
    request = json.loads(editor.download("The edit, JSON"))
    assert request["mask"]["runs"] == painted
    editor.press("Escape", "x")
    assert kind.text_content() == "Mask: automatic"


def test_the_keyboard_alone(editor: EditorPage) -> None:
    editor.open()
    canvas = editor.page.locator("#canvas")
    for _ in range(40):
        if canvas.evaluate("canvas => canvas === document.activeElement"):
            break
        editor.press("Tab")
    editor.press("ArrowRight", "Shift+ArrowDown", "Space", "Shift+ArrowLeft", "ArrowUp", "Space")
    (drag,) = editor.drags
    assert drag["target"][0] < drag["handle"][0]
    assert drag["target"][1] < drag["handle"][1]
    assert editor.page.locator("#said").text_content() == "Let go."
    editor.press("n", "Alt+ArrowRight")
    assert editor.drags[0]["handle"][0] > drag["handle"][0]
    editor.press("Escape")
    editor.run()
    editor.press("Enter")
    assert editor.drags == []
    editor.press("?")
    assert editor.page.get_by_role("dialog").is_visible()
    editor.press("Escape")


Touch = Callable[..., None]


@pytest.fixture
def phone(browser, server) -> Iterator[tuple[EditorPage, Touch]]:
    """The page on a small screen, and ``touch(kind, *points)`` for the fingers on it."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    editor = EditorPage(context.new_page(), server.address)
    editor.open()
    fingers = context.new_cdp_session(editor.page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    yield editor, touch
    assert editor.complaints == []
    context.close()


def test_a_phone(phone: tuple[EditorPage, Touch]) -> None:
    editor, touch = phone
    touch("touchStart", editor.at(*NOSE))
    for share in (0.3, 0.6, 1):
        touch("touchMove", editor.at(NOSE[0] - 40 * share, NOSE[1]))
    touch("touchEnd")
    assert len(editor.drags) == 1

    scale = editor.page.evaluate("lightningdrag.editor.view.scale")
    touch("touchStart", (150, 400))
    touch("touchStart", (150, 400), (240, 400))
    for apart in (20, 40, 60):
        touch("touchMove", (150 - apart, 400), (240 + apart, 400))
    touch("touchEnd")
    assert editor.page.evaluate("lightningdrag.editor.view.scale") > 1.5 * scale
    assert len(editor.drags) == 1
    editor.page.get_by_role("button", name="Fit the photo").tap()
    assert editor.page.evaluate("lightningdrag.editor.view.scale") == scale

    overflow = editor.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert overflow <= 0
    editor.page.get_by_role("button", name="Run", exact=True).tap()
    editor.wait("result")
    for width in (390, 320):
        editor.page.set_viewport_size({"width": width, "height": 844})
        for button in editor.page.locator("button:visible").all():
            box = button.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
    editor.screenshot("narrow")
    editor.page.set_viewport_size({"width": 390, "height": 844})
    editor.screenshot("phone")
    editor.page.get_by_role("button", name="Adjust").tap()
    touch("touchStart", editor.at(*editor.drags[0]["target"]))
    editor.until("lightningdrag.editor.state.drags.length === 0")  # held, it goes
    touch("touchEnd")


@pytest.mark.parametrize("tool", ["drag", "pin", "brush", "eraser"])
def test_a_touch_that_the_system_takes_back_does_nothing(phone: tuple[EditorPage, Touch], tool: str) -> None:
    editor, touch = phone
    editor.page.evaluate("tool => lightningdrag.editor.set({ tool })", tool)
    x, y = editor.at(*NOSE)
    for way in (0, 30):
        touch("touchStart", (x, y))
        if way:
            touch("touchMove", (x + way, y))
        touch("touchCancel")
        assert editor.drags == []
        assert editor.state["mask"] is None


@pytest.mark.parametrize("tool", ["drag", "pin", "brush", "eraser"])
def test_pinching_changes_nothing_but_the_view(phone: tuple[EditorPage, Touch], tool: str) -> None:
    editor, touch = phone
    editor.pull(NOSE, ASIDE)
    (x, y), history = editor.at(150, 120), "({ states, index }) => JSON.stringify([states, index])"

    def pinch(first_moves: float) -> None:
        """The first finger is a little ahead of the second."""
        touch("touchStart", (x, y))
        touch("touchMove", (x + first_moves, y))
        touch("touchStart", (x + first_moves, y), (x + 100, y))
        touch("touchMove", (x + first_moves, y), (x + 140, y))
        touch("touchEnd")

    def assert_unchanged_by_pinching() -> None:
        mode, before = editor.page.evaluate(
            f"[lightningdrag.editor.mode, ({history})(lightningdrag.editor.work)]"
        )
        for first_moves in (0, 5, 30):
            pinch(first_moves)
            assert editor.page.evaluate(f"({history})(lightningdrag.editor.work)") == before
            assert editor.page.evaluate("lightningdrag.editor.mode") == mode

    editor.page.evaluate("tool => lightningdrag.editor.set({ tool })", tool)
    assert_unchanged_by_pinching()
    editor.run()
    assert_unchanged_by_pinching()
    editor.press("Control+z")
    assert_unchanged_by_pinching()  # the result can be done again
    editor.press("f")
    touch("touchStart", (x, y))
    touch("touchMove", (x + 30, y))
    touch("touchEnd")
    assert len(editor.drags) == 1 + (tool in ("drag", "pin"))  # one finger does what the tool does
    assert (editor.state["mask"] is not None) == (tool in ("brush", "eraser"))


HAND_OVER = """async (kind) => {
  const answer = await fetch("/api/v1/examples/chelsea");
  const transfer = new DataTransfer();
  transfer.items.add(new File([await answer.blob()], `${kind}.jpg`, { type: "image/jpeg" }));
  const data = kind === "drop" ? { dataTransfer: transfer } : { clipboardData: transfer };
  const Event = kind === "drop" ? DragEvent : ClipboardEvent;
  document.body.dispatchEvent(new Event(kind, { bubbles: true, cancelable: true, ...data }));
}"""


def test_a_photo_is_dropped_pasted_or_taken_from_the_examples(editor: EditorPage) -> None:
    for kind in ("drop", "paste"):
        editor.page.evaluate(HAND_OVER, kind)
        editor.until(f"document.title.startsWith('{kind}.jpg')")
        editor.until(SHOWN)
    editor.click("paste.jpg")
    editor.wait("empty")
    editor.page.get_by_role("button", name="The cat turns its nose").click()
    editor.wait("edit")
    assert len(editor.drags) == 2  # the example brings its edit
    editor.run()
