"""What can go wrong around the page: a dead server, two tabs, a reload, wrong files."""

from __future__ import annotations

import json
import signal
import urllib.request

import numpy as np
import pytest
from conftest import TOKEN
from editor_page import ASIDE, EXAMPLES, FOLLOWING, NOSE, SHOWN, EditorPage
from PIL import Image

from lightningdrag import Drag, EditRequest


def test_the_server_is_killed_in_the_middle_and_nothing_is_lost(editor: EditorPage, server) -> None:
    editor.open()
    editor.pull(NOSE, ASIDE)
    editor.run()
    editor.press("Enter")
    editor.pull((150, 120), (162, 110))
    editor.page.get_by_role("button", name="Settings").click()
    editor.page.get_by_role("spinbutton", name="Candidates").fill("16")
    editor.press("Escape")
    editor.click("Run")
    editor.wait("running")
    editor.offline = True
    server.kill()
    editor.page.get_by_text("Connection lost").wait_for()
    editor.click("Save")
    editor.click("JPEG")
    editor.page.get_by_text("It is saved as soon as that is over").wait_for()
    server.start()
    editor.wait("result")  # on the result of the first round, which the new server never saw
    assert len(editor.state["proposal"]["candidates"]) == 16


def test_a_run_that_the_server_gave_up_while_the_connection_was_lost_is_made_again(
    editor: EditorPage, server
) -> None:
    editor.open()
    editor.page.evaluate(
        "lightningdrag.editor.set({settings: {...lightningdrag.editor.settings, num_images: 16, steps: 12}})"
    )
    editor.pull(NOSE, ASIDE)
    editor.offline = True
    with editor.page.expect_response(lambda answer: answer.url.endswith("/jobs")) as asked:
        editor.press("Enter")
    job = server.address + asked.value.headers["location"].removeprefix("/")
    editor.page.context.set_offline(True)
    cancel = urllib.request.Request(f"{job}/cancel", method="POST")  # as the server does after 15 seconds
    assert json.load(urllib.request.urlopen(cancel, timeout=60))["state"] == "cancelled"
    editor.page.context.set_offline(False)
    editor.wait("result")
    assert len(editor.state["proposal"]["candidates"]) == 16


FILL_THE_QUEUE = """async () => {
  const { client } = lightningdrag;
  const photo = await client.blob("/api/v1/examples/astronaut");
  const { id } = await client.json("/api/v1/sessions", { method: "POST", body: photo });
  for (let k = 0; k < 2; k++) {
    const form = new FormData();
    const drags = [{ handle: [200, 100], target: [240, 100] }];
    const options = { num_images: 16, steps: 12 };
    form.set("request", JSON.stringify({ schema: "lightningdrag.edit", version: 1, drags, options }));
    const job = await client.json(`/api/v1/sessions/${id}/jobs`, { method: "POST", body: form });
    while (k === 0 && (await client.json(`/api/v1/sessions/${id}/jobs/${job.id}`)).state === "queued");
  }
  return () => client.fetch(`/api/v1/sessions/${id}`, { method: "DELETE" });
}"""


def test_a_token_is_asked_for_and_a_full_queue_waited_for(context, small_server) -> None:
    editor = EditorPage(context.new_page(), small_server.address)
    note = editor.page.locator("#token-note")
    for token in ("wrong token", TOKEN):
        editor.page.get_by_label("Token", exact=True).fill(token)
        editor.page.get_by_label("Token", exact=True).press("Enter")
        editor.until(f"document.querySelector('#token').open === {'false' if token == TOKEN else 'true'}")
        assert "not the server's" in note.text_content()
    editor.open()
    editor.pull(NOSE, ASIDE)
    editor.until(FOLLOWING)
    make_room = editor.page.evaluate_handle(FILL_THE_QUEUE)
    editor.click("Run")
    editor.page.get_by_text("The server is busy").wait_for()
    editor.screenshot("busy")
    make_room.evaluate("remove => remove()")
    editor.wait("result")


def test_a_run_that_waits_when_the_server_is_stopped_in_order_is_made_again(
    editor: EditorPage, server
) -> None:
    editor.open()
    editor.pull(NOSE, ASIDE)
    editor.until(FOLLOWING)
    make_room = editor.page.evaluate_handle(FILL_THE_QUEUE)
    editor.click("Run")
    editor.page.get_by_text("In the queue: 1 before you").wait_for()
    editor.offline = True
    server.process.send_signal(signal.SIGTERM)
    editor.page.get_by_text("Connection lost").wait_for()
    make_room.evaluate("remove => remove()")  # the server would give the running edit some seconds
    server.process.wait(20)
    server.start()
    editor.wait("result")
    assert editor.page.locator(".toast.error").count() == 0


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_that_cannot_reach_the_server_is_a_lost_connection(editor: EditorPage, status: int) -> None:
    editor.offline = True  # Chromium logs every answer above 400

    def answered(address: str, times: int) -> None:
        body = {"status": status, "content_type": "text/html", "body": "<h1>Sorry</h1>"}
        editor.page.route(address, lambda route: route.fulfill(**body), times=times)

    answered("**/jobs", 1)  # long before it is needed, as below
    editor.open()
    editor.pull(NOSE, ASIDE)
    asked: list[str] = []
    editor.page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    answered("**/healthz", 2)
    editor.run()
    assert any(label.startswith("Connection lost") for label in editor.seen)
    assert [name for name in asked if name in ("jobs", "healthz")] == ["jobs", *["healthz"] * 3, "jobs"]


def test_a_server_without_its_model_is_told_and_not_waited_for(editor: EditorPage) -> None:
    editor.offline = True  # Chromium logs every answer above 400
    detail = "the model cannot be loaded: no such file"
    problem = {"type": "urn:lightningdrag:not-ready", "title": "No", "status": 503, "detail": detail}
    # Long before it is needed: on a busy machine a request right behind this went past it.
    editor.page.route(
        "**/jobs",
        lambda route: route.fulfill(status=503, json=problem, content_type="application/problem+json"),
    )
    editor.open()
    editor.pull(NOSE, ASIDE)
    editor.press("Enter")
    toast = editor.page.locator(".toast.error")
    toast.wait_for()
    assert detail in toast.text_content()
    editor.wait("edit")


@pytest.mark.parametrize("leave", ["editor.close()", "await editor.restore(other)"])
def test_the_last_change_before_a_work_is_left_is_kept(editor: EditorPage, leave: str) -> None:
    kept = "async () => (await import('/js/storage.js')).list()"
    for number, name in enumerate(("coffee.jpg", "chelsea.jpg"), 1):
        editor.open(name)
        editor.until(f"document.title.startsWith('{name}')")
        while len(editor.page.evaluate(kept)) < number:
            editor.page.wait_for_timeout(50)
    other = next(work["id"] for work in editor.page.evaluate(kept) if work["name"] == "coffee.jpg")
    editor.page.evaluate(
        f"""async (other) => {{
          const {{ editor }} = lightningdrag;
          editor.addDrag([262, 232], [236, 240]);
          {leave};
          if (editor.work) editor.close();
        }}""",
        other,
    )
    editor.page.get_by_role("button", name="chelsea.jpg", exact=True).click()
    editor.wait("edit")
    assert len(editor.drags) == 1


def test_the_options_of_an_opened_edit_are_its_work_s_alone(editor: EditorPage, tmp_path) -> None:
    saved = tmp_path / "edit.json"
    saved.write_text(EditRequest((Drag(NOSE, ASIDE),), seed=7, num_images=3, temperature=2.5).to_json())
    options = "(({ seed, num_images, temperature }) => [seed, num_images, temperature ?? null])"
    shown = f"{options}(lightningdrag.editor.settings)"
    editor.open("coffee.jpg")
    editor.until("document.title.startsWith('coffee.jpg')")
    editor.page.locator("#file").set_input_files([EXAMPLES / "chelsea.jpg", saved])
    editor.until("document.title.startsWith('chelsea.jpg')")
    assert editor.page.evaluate(shown) == [7, 3, 2.5]
    editor.page.wait_for_timeout(600)  # the pause before work is kept
    editor.page.reload()
    editor.wait("edit")
    assert editor.page.evaluate(shown) == [7, 3, 2.5]
    editor.page.evaluate("lightningdrag.editor.close()")
    editor.page.get_by_role("button", name="coffee.jpg", exact=True).click()
    editor.wait("edit")
    assert editor.page.evaluate(shown) == [None, 1, None]


@pytest.mark.parametrize("by", ["decode", "place"])
def test_of_two_photos_the_one_opened_last_is_shown(editor: EditorPage, by: str) -> None:
    """However long the browser, or the server, takes for the first."""
    fault = "const decode = createImageBitmap; window.createImageBitmap = async (blob, ...more) => {"
    fault += " if (slow === blob) { await until;" + (" throw 0" if by == "place" else "") + " }"
    fault += " return decode(blob, ...more) }"
    titles = editor.page.evaluate(
        f"""async () => {{
          let go, slow;
          const until = new Promise((done) => (go = done));
          const {{ files, editor }} = lightningdrag;
          const example = async (name) => (await fetch(`/api/v1/examples/${{name}}`)).blob();
          const [first, second] = [await example("coffee"), await example("chelsea")];
          slow = first;
          {fault};
          const slowly = files.open(first, "coffee.jpg");
          await files.open(second, "chelsea.jpg");
          const before = editor.work.name;
          go();
          await slowly;
          return [before, editor.work.name];
        }}"""
    )
    assert titles == ["chelsea.jpg", "chelsea.jpg"]


def test_a_photo_that_the_server_refuses_leaves_the_work_on_view(editor: EditorPage) -> None:
    editor.open()
    editor.pull(NOSE, ASIDE)
    editor.offline = True  # Chromium logs every answer above 400
    problem = {"type": "urn:lightningdrag:photo", "title": "Refused", "detail": "too long", "status": 422}
    editor.page.route(
        "**/api/v1/sessions",
        lambda route: route.fulfill(status=422, json=problem, content_type="application/problem+json"),
        times=1,
    )
    editor.page.locator("#file").set_input_files(EXAMPLES / "coffee.jpg")
    toast = editor.page.locator(".toast.error")
    toast.wait_for()
    assert "coffee.jpg: too long" in toast.text_content()
    assert editor.page.title().startswith("chelsea.jpg")
    assert len(editor.drags) == 1
    editor.run()


def test_the_last_three_messages_stay_until_the_next_photo(editor: EditorPage) -> None:
    for number in range(5):
        editor.page.evaluate("number => lightningdrag.toasts.show(`Message ${number}`, true)", number)
    assert editor.page.locator(".toast").all_text_contents() == ["Message 2", "Message 3", "Message 4"]
    editor.open()
    assert editor.page.locator(".toast").count() == 0


def test_an_edit_of_another_photo_is_told(editor: EditorPage, tmp_path) -> None:
    editor.open("coffee.jpg")
    saved = tmp_path / "edit.json"
    saved.write_text(EditRequest((Drag(NOSE, ASIDE),), image="chelsea.jpg").to_json())
    editor.page.locator("#file").set_input_files(saved)
    editor.page.get_by_text("This edit was made for chelsea.jpg.").wait_for()
    assert len(editor.drags) == 1


def test_an_edit_whose_mask_is_a_file_is_opened_with_and_without_it(editor: EditorPage) -> None:
    example, mask = EXAMPLES / "china.json", EXAMPLES / "masks" / "china.png"
    editor.open("china.jpg")
    editor.page.locator("#file").set_input_files(example)
    editor.page.get_by_text("is in china.png: open both together").wait_for()
    assert len(editor.drags) == 5
    assert editor.state["mask"] is None
    editor.page.locator("#file").set_input_files([EXAMPLES / "china.jpg", mask, example])
    editor.until("lightningdrag.editor.state?.mask")
    assert len(editor.drags) == 5
    drawn, saved = editor.state["mask"], np.asarray(Image.open(mask).convert("L")) > 127
    assert drawn["size"] == [saved.shape[1], saved.shape[0]]
    assert sum(drawn["runs"][1::2]) == saved.sum()
    editor.run()


def test_two_tabs_are_two_works(editor: EditorPage, context, server) -> None:
    editor.open()
    editor.pull(NOSE, ASIDE)
    other = EditorPage(context.new_page(), server.address)
    other.open("coffee.jpg")
    other.pull((365, 285), (393, 291))
    editor.run()
    other.run()
    kept = "async () => (await import('/js/storage.js')).list()"
    for page in (editor.page, other.page):
        page.wait_for_timeout(600)  # the pause before work is kept
        page.reload()
        page.wait_for_selector("body[data-mode=result]")
    assert editor.page.title().startswith("chelsea.jpg")
    assert other.page.title().startswith("coffee.jpg")
    assert sorted(work["name"] for work in editor.page.evaluate(kept)) == ["chelsea.jpg", "coffee.jpg"]
    editor.press("Control+z")
    assert len(editor.drags) == 1
    editor.page.wait_for_timeout(600)
    own = editor.page.evaluate("lightningdrag.editor.work.id")
    other.page.evaluate("lightningdrag.editor.close()")
    other.page.get_by_role("button", name="chelsea.jpg", exact=True).click()
    other.wait("edit")
    assert other.page.evaluate("lightningdrag.editor.work.id") != own  # a copy, while the first tab has it


def test_cancelling_goes_back_to_the_drags(editor: EditorPage) -> None:
    editor.open()
    editor.page.evaluate(
        "lightningdrag.editor.set({settings: {...lightningdrag.editor.settings, num_images: 16}})"
    )
    editor.pull(NOSE, ASIDE)
    editor.press("Enter")
    editor.wait("running")
    editor.press("Escape")
    editor.wait("edit")
    assert len(editor.drags) == 1
    assert editor.page.locator(".toast.error").count() == 0


@pytest.mark.parametrize(
    ("kind", "status", "mode"), [("storage", 507, "edit"), ("rate", 429, "edit"), ("photo", 422, "empty")]
)
def test_only_a_photo_that_the_server_refuses_is_closed(
    editor: EditorPage, kind: str, status: int, mode: str
) -> None:
    editor.offline = True  # Chromium logs every answer above 400
    problem = {"type": f"urn:lightningdrag:{kind}", "title": "Refused", "status": status}
    editor.page.route(
        "**/api/v1/sessions",
        lambda route: route.fulfill(status=status, json=problem, content_type="application/problem+json"),
        times=1,
    )
    editor.page.locator("#file").set_input_files(EXAMPLES / "chelsea.jpg")
    editor.page.locator(".toast.error").wait_for()
    assert editor.page.locator("body").get_attribute("data-mode") == mode
    if mode == "empty":
        editor.page.wait_for_timeout(600)  # the pause before work is kept
        assert editor.page.evaluate("async () => (await import('/js/storage.js')).list()") == []
    if mode == "edit":
        editor.pull(NOSE, ASIDE)
        editor.run()


def test_a_remembered_model_that_this_server_lacks_is_forgotten(editor: EditorPage) -> None:
    editor.page.evaluate("localStorage.setItem('lightningdrag.settings', JSON.stringify({model: 'sd15'}))")
    editor.page.reload()
    editor.until("window.lightningdrag?.editor.models.limits")
    editor.open()
    editor.pull(NOSE, ASIDE)
    editor.run()
    assert editor.state["proposal"]["model"] == "builtin"


def test_files_that_are_no_photo_are_refused_in_plain_words(editor: EditorPage, tmp_path) -> None:
    editor.offline = True  # Chromium logs every answer above 400
    for name, text in (("notes.txt", "no photo"), ("edit.json", '{"schema": "other"}')):
        (tmp_path / name).write_text(text)
        editor.page.locator("#file").set_input_files(tmp_path / name)
    toasts = editor.page.locator(".toast.error")
    editor.until("document.querySelectorAll('.toast.error').length === 2")
    assert any("no saved edit" in text for text in toasts.all_text_contents())
    assert editor.page.locator("body").get_attribute("data-mode") == "empty"


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [10**9, 10**9], "runs": [10**18]},
        {"size": [4, 3], "runs": [5, 6]},
        {"size": [4, 3], "runs": [13, -1]},
        {"size": [4, 3], "runs": 5},
        {"size": 5, "runs": [5]},
    ],
)
def test_a_saved_edit_with_a_broken_mask_is_refused(editor: EditorPage, tmp_path, mask: dict) -> None:
    editor.offline = True  # the page logs what is not the server's problem
    editor.open()
    saved = json.loads(EditRequest((Drag(NOSE, ASIDE),)).to_json())
    (tmp_path / "edit.json").write_text(json.dumps({**saved, "mask": mask}))
    editor.page.locator("#file").set_input_files(tmp_path / "edit.json")
    toast = editor.page.locator(".toast.error")
    toast.wait_for()
    assert "mask of this saved edit" in toast.text_content()
    assert editor.drags == []


@pytest.mark.parametrize("point", [(-5, 20), (451, 20), (20, -1), (20, 300)])
def test_an_edit_with_a_point_outside_the_photo_is_refused(
    editor: EditorPage, tmp_path, point: tuple[float, float]
) -> None:
    editor.offline = True  # the page logs what is not the server's problem
    saved = tmp_path / "edit.json"
    saved.write_text(EditRequest((Drag(point, ASIDE),)).to_json())
    toast = editor.page.locator(".toast.error")
    told = f"does not fit this photo of 451 x 300 pixels: it has a point at {point[0]}, {point[1]}"

    editor.page.locator("#file").set_input_files([EXAMPLES / "chelsea.jpg", saved])
    toast.wait_for()
    assert told in toast.text_content()
    assert editor.page.locator("body").get_attribute("data-mode") == "empty"

    toast.get_by_role("button", name="Dismiss").click()
    editor.open()
    editor.page.locator("#file").set_input_files(saved)
    toast.wait_for()
    assert told in toast.text_content()
    assert editor.drags == []


def test_a_format_that_browsers_cannot_show_is_opened_by_the_server(editor: EditorPage, tmp_path) -> None:
    from PIL import Image

    Image.linear_gradient("L").resize((200, 120)).save(tmp_path / "scan.tiff")
    editor.page.locator("#file").set_input_files(tmp_path / "scan.tiff")
    editor.wait("edit")
    editor.until(SHOWN)
    assert editor.canvas().std() > 20
    editor.pull((60, 60), (80, 60))
    editor.run()


def test_every_control_has_a_name_and_light_and_dark_are_told_apart(editor: EditorPage) -> None:
    editor.open()
    nameless = editor.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas[tabindex]")]
          .filter((it) => !(it.getAttribute("aria-label") || it.textContent.trim() || it.labels?.length))
          .map((it) => it.outerHTML)"""
    )
    assert nameless == []
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = editor.page.evaluate(ground)
    editor.page.emulate_media(color_scheme="light")
    editor.until(f"{ground} !== '{dark}'")
