"""How fast the editor's live preview follows a pull: frames of a 1-megapixel photo in headless Chromium.

    python benchmarks/preview_speed.py [--width 1280] [--height 800] [--seconds 5] [--plain]

A pull goes round in circles on a random photo of 1152x864 while the page draws as often as it can.
Reported are the time of a frame, the script's share of it (mask, rim, upload), and frames a second. Without
a graphics card Chromium draws with SwiftShader on the CPU: a lower bound for any machine that has one.
With --plain it has no WebGL at all, and the page draws on a plain canvas.
"""

from __future__ import annotations

import argparse
import io
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from typing import Any

import numpy as np
from PIL import Image

WEBGL, PLAIN = "--enable-unsafe-swiftshader", "--disable-3d-apis"
MEASURE = """async (seconds) => {
  const { editor, scene } = lightningdrag;
  const [x, y] = [editor.work.width / 2, editor.work.height / 2];
  editor.addDrag([x, y], [x + 50, y]);
  const [pixel, between, script] = [new Uint8Array(4), [], []];
  for (let turn = 0, start = performance.now(); performance.now() - start < 1000 * seconds; turn++) {
    const before = performance.now();
    editor.moveEnd([x + 90 * Math.cos(turn / 10), y + 90 * Math.sin(turn / 10)]);
    const scripted = performance.now();
    scene.draw();
    script.push(performance.now() - before);
    const { gl, context } = scene.renderer; // reading waits until the frame is drawn
    if (gl) gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
    else context.getImageData(0, 0, 1, 1);
    between.push(performance.now() - before);
    await new Promise((done) => setTimeout(done));
  }
  return { between, script };
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--width", type=int, default=1280, help="of the window")
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--plain", action="store_true", help="in a browser without WebGL")
    arguments = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lightningdrag", "ui", "--no-browser", "--port", str(port)]
    server = subprocess.Popen(
        [*command, "--model", "warp"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(f"http://127.0.0.1:{port}/readyz")
        times = _measure(f"http://127.0.0.1:{port}/", arguments)
    finally:
        server.terminate()
        server.wait()
    for name, values in (("whole frame", times["between"]), ("of it script", times["script"])):
        middle, slow = np.percentile(values, [50, 95])
        print(f"{name}: median {middle:.1f} ms, 95 % within {slow:.1f} ms")
    print(f"{1000 / np.median(times['between']):.0f} frames/s, {len(times['between'])} frames")


def _measure(address: str, arguments: argparse.Namespace) -> Any:
    from playwright.sync_api import sync_playwright

    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (108, 144, 3), np.uint8))
    file = io.BytesIO()
    photo.resize((1152, 864), Image.Resampling.BICUBIC).save(file, "JPEG")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", PLAIN if arguments.plain else WEBGL]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport={"width": arguments.width, "height": arguments.height})
        page.goto(address)
        _until(page, "window.lightningdrag !== undefined")
        page.locator("#file").set_input_files(
            {"name": "p.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()}
        )
        _until(page, "lightningdrag.scene.drawn !== null")
        page.evaluate(MEASURE, 1)
        return page.evaluate(MEASURE, arguments.seconds)


def _until(page: Any, expression: str) -> None:
    """Playwright's own wait needs eval, which the page's security policy forbids."""
    while not page.evaluate(expression):
        page.wait_for_timeout(50)


def _wait(address: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(address, timeout=2)
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit("the server does not get ready")


if __name__ == "__main__":
    main()
