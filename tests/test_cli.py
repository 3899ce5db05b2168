"""The command line: what it writes, what it says, and what it refuses (one line, exit code 2, no files)."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from lightningdrag.commands import build_app
from lightningdrag.request import EditRequest

DRAG = ("--drag", "30,30:40,34")
WIDTH, HEIGHT = 96, 80


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    """The program in this process, with the warp in place of a model unless another is named."""
    words = [str(word) for word in arguments]
    if words[0] in ("edit", "batch") and "--model" not in words:
        words += ["--model", "warp"]
    return CliRunner().invoke(build_app(), words, input=stdin)


@pytest.fixture
def pixels() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack((x * 2, y * 3, (x * y) % 256), axis=-1).astype(np.uint8)


@pytest.fixture
def photo(tmp_path: Path, pixels: np.ndarray) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# What works


def test_edit_writes_a_photo_of_the_same_size_that_changed_only_inside_the_mask(
    photo: Path, tmp_path: Path, pixels: np.ndarray
) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20:50, 20:60] = True
    Image.fromarray(mask).save(tmp_path / "mask.png")

    result = run("edit", photo, *DRAG, "--mask", tmp_path / "mask.png", "-o", tmp_path / "out.png")

    assert result.exit_code == 0, result.output
    edited = np.asarray(Image.open(tmp_path / "out.png"))
    assert edited.shape == pixels.shape
    assert (edited[~mask] == pixels[~mask]).all()
    assert (edited[mask] != pixels[mask]).any()


def test_the_result_is_named_after_the_photo_when_no_name_is_given(photo: Path) -> None:
    assert run("edit", photo, *DRAG).exit_code == 0
    assert files(photo.parent) == {"photo.png", "photo.dragged.png"}


def test_several_candidates_are_numbered(photo: Path, tmp_path: Path) -> None:
    assert run("edit", photo, *DRAG, "-n", 3, "-o", tmp_path / "out.jpg").exit_code == 0
    assert files(tmp_path) == {"photo.png", "out-1.jpg", "out-2.jpg", "out-3.jpg"}


def test_a_photo_comes_in_by_stdin_and_goes_out_by_stdout(photo: Path, pixels: np.ndarray) -> None:
    result = run("edit", "-", *DRAG, stdin=photo.read_bytes())
    assert result.exit_code == 0
    assert Image.open(io.BytesIO(result.stdout_bytes)).size == (WIDTH, HEIGHT)
    assert result.stderr == ""


def test_json_says_what_was_done(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    result = run("edit", photo, *DRAG, "--seed", 7, "--guidance", 2, "-o", out, "--json")
    record = json.loads(result.stdout)
    assert set(record) == {
        *("schema", "version", "outputs", "width", "height", "model"),
        *("seed", "seconds", "warnings", "request"),
    }
    assert (record["schema"], record["version"]) == ("lightningdrag.result", 1)
    assert record["outputs"] == [str(out)]
    assert (record["width"], record["height"]) == (WIDTH, HEIGHT)
    assert (record["model"], record["seed"], record["warnings"]) == ("warp", 7, [])
    assert record["seconds"] >= 0
    assert record["request"]["options"]["guidance"] == 2
    assert record["request"]["drags"] == [{"handle": [30, 30], "target": [40, 34]}]


def test_a_saved_request_repeats_the_edit(photo: Path, tmp_path: Path) -> None:
    saved = tmp_path / "edit.json"
    run("edit", photo, *DRAG, "--augment", 2, "-o", tmp_path / "a.png", "--save-request", saved)
    assert run("edit", "--request", saved, "-o", tmp_path / "b.png").exit_code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    request = EditRequest.load(saved)
    assert (request.image, request.augment) == ("photo.png", 2)
    assert request.seed is not None


def test_options_override_a_request(photo: Path, tmp_path: Path) -> None:
    saved = tmp_path / "edit.json"
    EditRequest(("30,30:40,34",), image="photo.png", seed=1, augment=4).save(saved)
    result = run("edit", "--request", saved, "--seed", 2, "-d", "5,5:9,9", "-o", tmp_path / "o.png", "--json")
    request = json.loads(result.stdout)["request"]
    assert request["options"]["seed"] == 2
    assert request["options"]["augment"] == 4
    assert request["drags"] == [{"handle": [5, 5], "target": [9, 9]}]


def test_every_option_reaches_the_request(photo: Path, tmp_path: Path) -> None:
    options = {"steps": 3, "guidance": 1.5, "max-step": 4.0, "augment": 1, "num-images": 2, "seed": 5}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    result = run("edit", photo, *DRAG, *words, "--schedule", "linear", "-o", tmp_path / "o.png", "--json")
    said = json.loads(result.stdout)["request"]["options"]
    assert {name: said[name.replace("-", "_")] for name in options} == options
    assert said["guidance_schedule"] == "linear"


def test_preview_writes_the_warp_whatever_the_model(photo: Path, tmp_path: Path) -> None:
    result = run("edit", photo, *DRAG, "--preview", "--model", "builtin", "-o", tmp_path / "p.png", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["model"] == "warp"


def test_notes_go_to_stderr(photo: Path, tmp_path: Path) -> None:
    small = Image.new("L", (WIDTH // 2, HEIGHT // 2), 255)
    small.save(tmp_path / "small.png")
    result = run("edit", photo, *DRAG, "--mask", tmp_path / "small.png", "-o", tmp_path / "o.png")
    assert result.exit_code == 0
    assert f"mask scaled from {WIDTH // 2}x{HEIGHT // 2} to {WIDTH}x{HEIGHT}" in result.stderr


def test_an_animated_photo_is_edited_as_its_first_frame_and_this_is_said(tmp_path: Path) -> None:
    frames = [Image.new("P", (WIDTH, HEIGHT), colour) for colour in (1, 2)]
    frames[0].putpalette(list(range(256)) * 3)
    frames[1].putpalette(list(range(256)) * 3)
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    result = run("edit", tmp_path / "moving.gif", *DRAG, "-o", tmp_path / "o.png")
    assert result.exit_code == 0
    assert "first" in result.stderr


def test_batch_runs_a_folder_and_carries_on_after_a_bad_request(photo: Path, tmp_path: Path) -> None:
    for name, drag in (("a", "30,30:40,34"), ("b", "30,30:400,34"), ("c", "30,30:35,34")):
        EditRequest((drag,), image="photo.png", seed=0).save(tmp_path / f"{name}.json")
    (tmp_path / "d.json").write_text("{")

    result = run("batch", tmp_path, "--json")

    assert result.exit_code == 1
    assert files(tmp_path / "results") == {"a.png", "c.png"}
    summary = json.loads(result.stdout)
    assert (summary["done"], summary["failed"]) == (2, 2)
    errors = [record.get("error") for record in summary["results"]]
    assert errors[0] is None
    assert errors[2] is None
    assert "400,34" in errors[1]
    assert "JSON" in errors[3]
    assert "b.json" in result.stderr
    assert "d.json" in result.stderr


def test_batch_of_good_requests_exits_with_0(photo: Path, tmp_path: Path) -> None:
    EditRequest(("30,30:40,34",), image="photo.png").save(tmp_path / "a.json")
    result = run("batch", tmp_path, "--out", tmp_path / "made")
    assert result.exit_code == 0
    assert "1 done, 0 failed" in result.stdout
    assert files(tmp_path / "made") == {"a.png"}


def test_version_and_help() -> None:
    assert re.fullmatch(r"lightningdrag \d+\.\d+\.\d+\n", run("--version").stdout)
    help_text = run("--help").stdout
    for verb in ("edit", "batch", "models", "prepare", "train", "evaluate"):
        assert re.search(rf"^  {verb} +\S", help_text, re.MULTILINE), verb
        assert run(verb, "--help").exit_code == 0


# What is refused


def bomb(path: Path) -> Path:
    """A PNG of some hundred bytes that says it has 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    return path


def blank(path: Path, size: tuple[int, int], value: int = 0) -> Path:
    Image.new("L", size, value).save(path)
    return path


def truncated(path: Path, photo: Path) -> Path:
    path.write_bytes(photo.read_bytes()[:-200])
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


Case = Callable[[Path, Path], tuple[object, ...]]

REFUSED: dict[str, tuple[Case, str]] = {
    "no such file": (lambda p, d: (d / "gone.png", *DRAG), r"no such file: .*gone\.png"),
    "no image": (lambda p, d: (written(d / "x.png", b"hello" * 9), *DRAG), r"x\.png is not an image"),
    "truncated": (lambda p, d: (truncated(d / "t.png", p), *DRAG), r"t\.png"),
    "0 bytes": (lambda p, d: (written(d / "0.png", b""), *DRAG), r"0\.png is empty"),
    "bomb": (lambda p, d: (bomb(d / "b.png"), *DRAG), r"b\.png.*(30,?000|900,?000,?000)"),
    "more pixels than allowed": (lambda p, d: (p, *DRAG, "--max-pixels", 100), r"photo\.png.*100"),
    "more bytes than allowed": (lambda p, d: (p, *DRAG, "--max-bytes", 100), r"photo\.png.*100"),
    "outside": (lambda p, d: (p, "-d", "30,30:96,34"), r"96,34.*outside the photo of 96x80"),
    "NaN": (lambda p, d: (p, "-d", "nan,30:40,34"), r"nan.*not finite"),
    "infinite": (lambda p, d: (p, "-d", "30,30:inf,34"), r"inf.*not finite"),
    "no target": (lambda p, d: (p, "-d", "30,30"), r"'30,30' has a handle but no target"),
    "not numbers": (lambda p, d: (p, "-d", "a,b:c,d"), r"'a,b:c,d'"),
    "no drags": (lambda p, d: (p,), r"no drags.*--drag 210,140:260,120"),
    "65 drags": (
        lambda p, d: (p, *(word for i in range(65) for word in ("-d", f"{i},5:{i},9"))),
        r"65 drags; at most 64",
    ),
    "two ways": (
        lambda p, d: (p, "-d", "30,30:40,34", "-d", "30,30:20,34"),
        r"30,30:40,34 and 30,30:20,34",
    ),
    "empty mask": (lambda p, d: (p, *DRAG, "--mask", blank(d / "m.png", (WIDTH, HEIGHT))), r"mask is empty"),
    "mask of another shape": (
        lambda p, d: (p, *DRAG, "--mask", blank(d / "m.png", (50, 80), 255)),
        r"50x80.*96x80",
    ),
    "no such mask": (lambda p, d: (p, *DRAG, "--mask", d / "gone.png"), r"no such file: .*gone\.png"),
    "steps 0": (lambda p, d: (p, *DRAG, "--steps", 0), r"steps is 0.*1\.\.1000"),
    "guidance NaN": (lambda p, d: (p, *DRAG, "--guidance", "nan"), r"guidance is nan"),
    "no candidates": (lambda p, d: (p, *DRAG, "-n", 0), r"num_images is 0"),
    "schedule": (lambda p, d: (p, *DRAG, "--schedule", "cubik"), r"'cubik'.*cubic"),
    "max-step 0": (lambda p, d: (p, *DRAG, "--max-step", 0), r"max_step is 0"),
    "model": (
        lambda p, d: (p, *DRAG, "--model", "bultin"),
        r"unknown model 'bultin' \(did you mean 'builtin'",
    ),
    "no such model folder": (lambda p, d: (p, *DRAG, "--model", "./gone"), r"no such model .*\./gone"),
    "folder without a model": (lambda p, d: (p, *DRAG, "--model", d), r"holds no model"),
    "device": (lambda p, d: (p, *DRAG, "--device", "tpu"), r"no device 'tpu'; here: auto"),
    "dtype": (lambda p, d: (p, *DRAG, "--dtype", "int8"), r"unknown dtype 'int8'"),
    "no such output folder": (lambda p, d: (p, *DRAG, "-o", d / "gone" / "o.png"), r"no such folder.*gone"),
    "output that is a folder": (lambda p, d: (p, *DRAG, "-o", d), r"ends in nothing|is a folder"),
    "output format": (lambda p, d: (p, *DRAG, "-o", d / "o.xyz"), r"o\.xyz ends in \.xyz"),
    "overwriting the photo": (lambda p, d: (p, *DRAG, "-o", p), r"would overwrite the photo"),
    "several to stdout": (lambda p, d: (p, *DRAG, "-n", 2, "-o", "-"), r"2 candidates cannot go to stdout"),
    "no such request": (lambda p, d: ("--request", d / "gone.json"), r"no such file: .*gone\.json"),
    "request of another schema": (
        lambda p, d: ("--request", written(d / "r.json", b'{"schema": "other"}')),
        r"r\.json: schema is 'other'",
    ),
    "request that is no JSON": (
        lambda p, d: ("--request", written(d / "r.json", b"\xff{")),
        r"r\.json.*JSON",
    ),
    "request with a misspelt option": (
        lambda p, d: (p, "--request", written(d / "r.json", _request(options={"step": 3}))),
        r"unknown field 'step'.*'steps'",
    ),
    "request folder missing": (lambda p, d: (p, *DRAG, "--save-request", d / "gone" / "r.json"), r"gone"),
}


def _request(**fields: object) -> bytes:
    record = {
        "schema": "lightningdrag.edit",
        "version": 1,
        "drags": [{"handle": [30, 30], "target": [40, 34]}],
    }
    return json.dumps({**record, **fields}).encode()


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_input_is_one_line_exit_code_2_and_nothing_written(
    case: str, photo: Path, tmp_path: Path
) -> None:
    arguments, message = REFUSED[case]
    words = arguments(photo, tmp_path)
    if "-o" not in words:
        words = (*words, "-o", tmp_path / "out.png")
    before = files(tmp_path)

    result = run("edit", *words)

    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("lightningdrag: error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert re.search(message, result.stderr), result.stderr
    assert files(tmp_path) == before


def test_stdin_that_is_empty_is_refused() -> None:
    result = run("edit", "-", *DRAG, stdin=b"")
    assert result.exit_code == 2
    assert result.stdout_bytes == b""
    assert "empty (0 bytes)" in result.stderr


def test_unknown_options_and_missing_photos_are_usage_errors(tmp_path: Path) -> None:
    for words in (("edit", "--frobnicate"), ("edit", *DRAG), ("dance",)):
        result = run(*words)
        assert result.exit_code == 2
        assert "Usage: " in result.stderr


def test_batch_refuses_a_folder_without_requests(tmp_path: Path) -> None:
    for folder, message in ((tmp_path, "no requests in"), (tmp_path / "gone", "no such folder")):
        result = run("batch", folder)
        assert result.exit_code == 2
        assert message in result.stderr
    assert files(tmp_path) == set()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_a_folder_that_takes_no_files_is_one_line(photo: Path) -> None:
    """/proc refuses new files even to root, to whom no folder is read-only."""
    result = run("edit", photo, *DRAG, "-o", "/proc/o.png")
    assert result.exit_code == 2
    assert re.fullmatch(r"lightningdrag: error: cannot write .*/proc.*\n", result.stderr)


@pytest.mark.skipif(os.name != "posix", reason="resource limits")
def test_a_full_disk_is_one_line_and_leaves_nothing(photo: Path, tmp_path: Path) -> None:
    """A limit on file size stands for the full disk: the write itself fails."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from lightningdrag.commands import main; sys.argv[0] = 'lightningdrag'; main()"
    )
    words = ["edit", photo, *DRAG, "--model", "warp", "-o", tmp_path / "o.png"]
    done = subprocess.run([sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(r"lightningdrag: error: .*cannot write .*o\.png.*\n", done.stderr)
    assert files(tmp_path) == {"photo.png"}


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_ends_with_130_and_leaves_nothing(tmp_path: Path) -> None:
    """The signal comes while the program waits for a photo on a stdin that never answers."""
    script = (
        "import sys, time, types; from lightningdrag.commands import main\n"
        "def read(size): print('waiting', flush=True); time.sleep(60)\n"
        "sys.stdin = types.SimpleNamespace(buffer=types.SimpleNamespace(read=read)); main()"
    )
    words = ["edit", "-", *DRAG, "-o", str(tmp_path / "o.png")]
    with subprocess.Popen(
        [sys.executable, "-c", script, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "lightningdrag: error: stopped\n"
    assert files(tmp_path) == set()


# What it costs


def test_a_mistake_is_answered_without_importing_torch(photo: Path) -> None:
    script = (
        "import sys; from lightningdrag.commands import build_app\n"
        f"code = build_app()(['edit', {str(photo)!r}, '-d', '30,30:400,34'], standalone_mode=False)\n"
        "assert code == 2, code\n"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_module_is_the_program(photo: Path, tmp_path: Path) -> None:
    words = ["edit", str(photo), *DRAG, "--model", "warp", "-o", str(tmp_path / "o.png")]
    done = subprocess.run([sys.executable, "-m", "lightningdrag", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "o.png"))
    assert done.stderr == ""
