"""A real server with the built-in model, and Chromium; without one of them these tests are left out."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from editor_page import EditorPage

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# WebGL without a graphics card.
TOKEN = "open sesame"
FLAGS = ["--no-sandbox", "--enable-unsafe-swiftshader"]


class Server:
    """``lightningdrag`` as a process that can be killed and started again on the same port."""

    def __init__(self, log: Path, *verb: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"
        self.log = log
        self.verb = verb
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "lightningdrag", *self.verb, "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.process.wait()

    def wait(self) -> None:
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()
            try:
                urllib.request.urlopen(f"{self.address}readyz", timeout=5)
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.1)
            else:
                return
        raise AssertionError(f"the server does not get ready:\n{self.log.read_text()}")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


@pytest.fixture(scope="session")
def browser() -> Iterator:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="browser tests left out: pip install '.[dev]'"
    )
    if CHROMIUM is None:
        pytest.skip("browser tests left out: no Chromium here; on Debian: apt install chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server") / "log.txt", "ui", "--no-browser")
    server.wait()
    yield server
    server.stop()


@pytest.fixture
def small_server(browser, tmp_path: Path) -> Iterator[Server]:
    """One that asks for a token and lets one job wait."""
    server = Server(tmp_path / "log.txt", "serve", "--queue", "1", "--token", TOKEN)
    server.wait()
    yield server
    server.stop()


@pytest.fixture
def context(browser) -> Iterator:
    context = browser.new_context(viewport={"width": 960, "height": 640}, color_scheme="dark")
    yield context
    context.close()


@pytest.fixture
def editor(context, server: Server, request: pytest.FixtureRequest) -> Iterator[EditorPage]:
    """The page, at its start; after the test it must not have complained or asked another host."""
    editor = EditorPage(context.new_page(), server.address)
    yield editor
    editor.screenshot(request.node.name)
    assert editor.complaints == []
    assert editor.strangers == []
