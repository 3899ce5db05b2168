"""Drawing inside the ComfyUI node, in Chromium: ComfyUI is not here, a page offers what the script calls."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from editor_page import ARTEFACTS

ROOT = Path(__file__).parents[2]
ORIGIN = "http://comfyui.test"
APP = "export const app = { registerExtension(extension) { window.extension = extension; } };"
API = "export const api = { apiURL: (path) => path };"
PAGE = """<body style="margin:0"><script type="module">
  import "/extensions/lightningdrag/lightningdrag.js";
  class NodeType {
    widgets = [{ name: "drags", value: "[]" }];
    size = [380, 480];
    setSize() {}
    addDOMWidget(name, kind, element) {
      const frame = document.createElement("div");
      frame.style.width = "380px";
      frame.append(element);
      document.body.append(frame);
    }
  }
  await window.extension.beforeRegisterNodeDef(NodeType, { name: "LightningDrag" });
  window.node = new NodeType();
  window.node.onNodeCreated();
  window.node.onExecuted({ drag_source: [{ filename: "coffee.jpg", subfolder: "", type: "temp" }] });
</script>"""


@pytest.fixture
def node(browser):
    page = browser.new_page(viewport={"width": 420, "height": 320})
    script = (ROOT / "integrations" / "comfyui" / "web" / "lightningdrag.js").read_text()
    texts = {
        "/": ("text/html", PAGE),
        "/scripts/app.js": ("text/javascript", APP),
        "/scripts/api.js": ("text/javascript", API),
        "/extensions/lightningdrag/lightningdrag.js": ("text/javascript", script),
    }

    def answer(route) -> None:
        path = route.request.url.removeprefix(ORIGIN).partition("?")[0]
        if path == "/view":
            route.fulfill(path=ROOT / "examples" / "coffee.jpg")
        else:
            kind, body = texts[path]
            route.fulfill(content_type=kind, body=body)

    page.route(f"{ORIGIN}/**", answer)
    page.goto(ORIGIN)
    page.wait_for_function("window.node?.board.image")
    yield page
    page.close()


def test_drags_are_drawn_moved_pinned_and_removed_inside_the_comfyui_node(node) -> None:
    def drags() -> list:
        return json.loads(node.evaluate("node.widgets[0].value"))

    box = node.locator("canvas").bounding_box()
    scale = node.evaluate("node.board.image.naturalWidth") / box["width"]

    def pull(start: tuple[int, int], end: tuple[int, int]) -> None:
        node.mouse.move(box["x"] + start[0], box["y"] + start[1])
        node.mouse.down()
        node.mouse.move(box["x"] + end[0], box["y"] + end[1], steps=3)
        node.mouse.up()

    pull((100, 100), (150, 120))
    (drag,) = drags()
    assert drag == [[pytest.approx(v * scale, abs=1.5) for v in point] for point in ((100, 100), (150, 120))]
    pull((150, 120), (60, 60))
    assert drags()[0] == [drag[0], [pytest.approx(60 * scale, abs=1.5)] * 2]
    node.keyboard.down("Shift")
    pull((200, 150), (220, 150))
    node.keyboard.up("Shift")
    assert drags()[1][0] == drags()[1][1]  # a pin
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    node.screenshot(path=ARTEFACTS / "comfyui.png")
    node.mouse.click(box["x"] + 60, box["y"] + 60, button="right")
    assert len(drags()) == 1
