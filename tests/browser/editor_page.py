"""The editor's page as the tests see it: points of the photo, gestures, what is on the canvas."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
ARTEFACTS = ROOT / "out" / "browser"

NOSE, ASIDE = (262, 232), (236, 240)
"""Of chelsea.jpg, 451x300: what is pulled, and where to."""
SHOWN = "lightningdrag.editor.work !== null && lightningdrag.scene.drawn === lightningdrag.editor.work.shown"
FOLLOWING = "lightningdrag.editor.found.drags === lightningdrag.editor.state.drags"
SEEN = """() => {
  window.seen = [];
  const note = () => {
    const running = document.body.dataset.mode === "running";
    const text = running ? document.querySelector("#progress-label").textContent : document.body.dataset.mode;
    if (text && window.seen.at(-1) !== text) window.seen.push(text);
  };
  new MutationObserver(note).observe(document.body, { subtree: true, attributes: true, childList: true });
}"""


class EditorPage:
    def __init__(self, page, address: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self.offline = False  # the browser itself complains of a server that is gone
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda asked: self._watch(asked.url, address))
        page.goto(address)
        self.until("window.lightningdrag !== undefined")
        page.evaluate(SEEN)

    def _listen(self, message) -> None:
        if message.type == "error" and not self.offline:
            self.complaints.append(message.text)

    def _watch(self, url: str, address: str) -> None:
        if not url.startswith((address, "blob:", "data:")):
            self.strangers.append(url)

    def open(self, name: str = "chelsea.jpg") -> None:
        self.page.locator("#file").set_input_files(EXAMPLES / name)
        self.wait("edit")
        self.until(SHOWN)

    def wait(self, mode: str) -> None:
        self.page.wait_for_selector(f"body[data-mode={mode}]", timeout=60_000)

    def until(self, expression: str) -> None:
        """Wait until a script's expression holds; Playwright's own wait needs eval, which the CSP forbids."""
        for _ in range(600):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never: {expression}")

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point of the photo on the screen."""
        x, y = self.page.evaluate("point => lightningdrag.editor.view.toScreen(point)", [x, y])
        return x, y

    def pull(self, handle: tuple[float, float], target: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*self.at(*handle))
        mouse.down()
        mouse.move(*self.at(*target), steps=4)
        mouse.up()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def run(self) -> None:
        self.press("Enter")
        self.wait("result")

    def click(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    @property
    def state(self) -> dict:
        return self.page.evaluate("lightningdrag.editor.state")

    @property
    def drags(self) -> list[dict]:
        return self.state["drags"]

    @property
    def seen(self) -> list[str]:
        """What the page went through: modes, and the labels of progress."""
        return self.page.evaluate("window.seen")

    def canvas(self) -> np.ndarray:
        """The photo as it is drawn, (H, W, 3) uint8, without the arrows over it."""
        address = self.page.evaluate(
            """async () => {
              await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
              return document.querySelector("#photo").toDataURL();
            }"""
        )
        return np.array(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGB"))

    def download(self, menu: str) -> bytes:
        self.click("Save")
        with self.page.expect_download(timeout=180_000) as waiting:
            self.click(menu)
        return Path(waiting.value.path()).read_bytes()

    def screenshot(self, name: str) -> None:
        """Kept for people to look at."""
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=ARTEFACTS / f"{name}.png")
