"""The server's folder of photos: for its user alone, and gone after it."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lightningdrag.service.private_folder import private_folder

HOLDER = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from lightningdrag.service.private_folder import private_folder
print(private_folder(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_it_is_for_the_owner_alone() -> None:
    assert stat.S_IMODE(private_folder().stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="there it is left behind")
def test_what_a_killed_server_left_goes_with_the_next_one(tmp_path: Path) -> None:
    foreign = tmp_path / "lightningdrag-notes"
    foreign.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    left = Path(holder.stdout.readline().strip())
    (left / "photo").write_bytes(b"private")
    first = private_folder()
    assert left.is_dir()
    assert (left / "photo").exists()
    holder.send_signal(signal.SIGKILL)
    holder.wait(20)
    second = private_folder()
    assert not left.exists()
    assert first.is_dir()
    assert second.is_dir()
    assert foreign.is_dir()  # nobody's lock is in it
