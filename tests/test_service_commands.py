"""The verbs ui and serve."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from queue import Queue
from urllib.parse import parse_qs

import httpx
import pytest

pytest.importorskip("fastapi", reason="the service's extra is not installed")

from typer.main import get_command

from lightningdrag.commands import build_app
from lightningdrag.service.settings import Settings


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lightningdrag", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("verb", ["ui", "serve"])
def test_others_are_not_let_in_by_mistake(verb: str) -> None:
    done = run(verb, "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "--token" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_token_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNINGDRAG_TOKEN", "short")
    done = run("serve", "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "at least 8 characters" in done.stderr


def test_the_page_is_opened_with_the_whole_token(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightningdrag.service import server

    opened: Queue[str] = Queue()
    monkeypatch.setattr(server, "_open_when_up", lambda address, fragment: opened.put(fragment))
    monkeypatch.setattr(server.Server, "run", lambda *arguments, **options: None)
    server.serve(Settings(token="ab+/cd&e%f=="), "127.0.0.1", 0, open_browser=True)
    # The page reads it with URLSearchParams, which takes apart as parse_qs does.
    assert parse_qs(opened.get(timeout=10).removeprefix("#")) == {"token": ["ab+/cd&e%f=="]}


def test_a_server_none_of_whose_workers_can_start_ends_and_says_why() -> None:
    done = run("serve", "--device", "cuda:99", "--port", "0")
    assert done.returncode == 2
    assert "the model cannot be loaded: no device 'cuda:99'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("verb", ["ui", "serve", "batch"])
def test_options_that_no_model_has_are_refused_at_once(verb: str, tmp_path: Path) -> None:
    (tmp_path / "edit.json").write_text("{}")
    arguments = (verb, str(tmp_path)) if verb == "batch" else (verb, "--model", "builtin", "--model", "warp")
    done = run(*arguments, "--option", "low-memory")
    assert done.returncode == 2
    assert "has no option low-memory; options are for SD 1.5" in done.stderr


def test_ui_takes_photos_as_large_as_edit_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightningdrag.commands.ui import ui
    from lightningdrag.photo import MAX_BYTES, MAX_PIXELS
    from lightningdrag.service import server

    given: list[Settings] = []
    monkeypatch.setattr(server, "serve", lambda settings, *_, **__: given.append(settings))
    ui()
    assert [(each.max_bytes, each.max_pixels) for each in given] == [(MAX_BYTES, MAX_PIXELS)]


@pytest.mark.parametrize("verb", ["ui", "serve"])
def test_every_option_has_a_row_in_the_documentation(verb: str) -> None:
    text = (Path(__file__).parents[1] / "docs" / "service.md").read_text()
    documented = re.findall(r"`(--[a-z-]+)", text.partition("\n## Options")[2].partition("\n## ")[0])
    options = get_command(build_app()).commands[verb].params  # type: ignore[attr-defined]
    assert {each.opts[0] for each in options} <= set(documented)


def test_a_taken_port_and_an_unknown_model_are_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "cannot listen on 127.0.0.1" in done.stderr
    assert "did you mean 'builtin'" in run("serve", "--model", "bultin").stderr


def test_ui_serves_the_page_until_it_is_told_to_stop(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lightningdrag", "ui", "--no-browser", "--port", "0", "--model", "warp"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": "", "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1]
    page = httpx.get(address)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    photo = Path(__file__).parents[1] / "examples" / "coffee.jpg"
    assert httpx.post(f"{address}api/v1/sessions", content=photo.read_bytes()).status_code == 201
    assert list(tmp_path.glob("lightningdrag-*/*/photo"))
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert "Traceback" not in log
    assert not list(tmp_path.iterdir())  # nothing is left behind
