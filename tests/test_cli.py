"""The command line: what it writes, what it says, and what it refuses (one line, exit code 2, no files)."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from lightningdrag import DragEditor
from lightningdrag.commands import build_app
from lightningdrag.commands.job import make_job, run_job
from lightningdrag.request import EditRequest
from wrong_input import DRAG, HEIGHT, REFUSED, WIDTH, bomb


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


def test_a_result_without_a_name_replaces_none_that_is_there(photo: Path) -> None:
    for _ in range(3):
        assert run("edit", photo, *DRAG).exit_code == 0
    assert run("edit", photo, *DRAG, "-n", 2).exit_code == 0
    assert files(photo.parent) == {"photo.png", "photo.dragged.png"} | {
        f"photo.dragged-{i}.png" for i in (2, 3, 4, 5)
    }


def test_edits_at_the_same_time_that_found_the_same_name_free_take_one_each(photo: Path) -> None:
    editor = DragEditor.from_pretrained("warp", device="cpu")
    jobs = [make_job(str(photo), EditRequest([DRAG[1]], num_images=n), None, {}) for n in (1, 1, 2, 2)]
    with ThreadPoolExecutor() as threads:
        done = list(threads.map(lambda job: run_job(job, editor, "warp", lambda step, total: None), jobs))
    written = [name for each in done for name in each.record()["outputs"]]
    assert len(set(written)) == 6
    assert files(photo.parent) == {"photo.png"} | {Path(name).name for name in written}
    for name in written:
        assert Image.open(name).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_is_taken_during_the_edit_is_left_to_who_took_it(
    photo: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:  # as on a camera's card
        monkeypatch.setattr(os, "link", link)
    job = make_job(str(photo), EditRequest([DRAG[1]], num_images=2), None, {})
    theirs = photo.with_name("photo.dragged-2.png")
    theirs.write_bytes(b"of another edit")
    editor = DragEditor.from_pretrained("warp", device="cpu")
    run_job(job, editor, "warp", lambda step, total: None)
    assert theirs.read_bytes() == b"of another edit"
    assert files(photo.parent) == {"photo.png"} | {f"photo.dragged-{i}.png" for i in (2, 3, 4)}


def test_an_edit_that_fails_at_its_last_moment_leaves_nothing_under_the_name_it_chose(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(Path, "replace", full)
    result = run("edit", photo, *DRAG, "-n", 2)
    assert result.exit_code == 1
    assert re.search(r"photo\.dragged-1\.png: cannot write: No space left", result.stderr)
    assert files(photo.parent) == {"photo.png"}


def test_candidates_without_a_name_are_numbered_from_one(photo: Path) -> None:
    for expected in ({1, 2}, {1, 2, 3, 4}):
        assert run("edit", photo, *DRAG, "-n", 2).exit_code == 0
        assert files(photo.parent) == {"photo.png"} | {f"photo.dragged-{i}.png" for i in expected}


def test_a_result_with_a_name_replaces_what_had_it(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"old")
    assert run("edit", photo, *DRAG, "-o", tmp_path / "out.png").exit_code == 0
    assert Image.open(tmp_path / "out.png").size == (WIDTH, HEIGHT)


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


def test_a_request_saved_into_a_linked_folder_is_found_there(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    saved = tmp_path / "link" / "edit.json"
    run("edit", photo, *DRAG, "-o", tmp_path / "a.png", "--save-request", saved)
    again = run("edit", "--request", saved, "-o", tmp_path / "b.png")
    assert again.exit_code == 0, again.stderr


def test_a_saved_mask_is_bounded_as_the_photo_is(photo: Path, tmp_path: Path) -> None:
    saved, most = tmp_path / "edit.json", WIDTH * HEIGHT
    EditRequest(("30,30:40,34",), np.ones((HEIGHT, WIDTH), bool), photo.name).save(saved)
    assert run("edit", "--request", saved, "--max-pixels", most).exit_code == 0
    refused = run("edit", "--request", saved, "--max-pixels", most - 1)
    assert f"size of the mask is [{WIDTH}, {HEIGHT}]; at most {most - 1:,} pixels are taken" in refused.stderr


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


def test_an_answer_that_is_no_picture_is_one_line(photo: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from lightningdrag.checkpoints.builtin import WEIGHTS

    weights = load_file(WEIGHTS)
    last = [name for name in weights if name.endswith("bias")][-1]
    save_file({**weights, last: weights[last] * float("nan")}, tmp_path / "broken.safetensors")
    result = run("edit", photo, *DRAG, "--model", tmp_path / "broken.safetensors", "-o", tmp_path / "o.png")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.endswith("error: the model's answer is not finite; dtype float32 may help")
    assert not (tmp_path / "o.png").exists()


def test_drags_that_move_nothing_are_said(photo: Path, tmp_path: Path) -> None:
    result = run("edit", photo, "-d", "30,30:30,30", "-o", tmp_path / "o.png")
    assert result.exit_code == 0
    assert "no drag moves anything" in result.stderr


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


def test_batch_does_not_write_over_what_any_of_its_requests_reads(photo: Path, tmp_path: Path) -> None:
    """The result of cat.json would be cat.png, which is the photo of cat-left.json."""
    photo.rename(tmp_path / "cat.png")
    Image.open(tmp_path / "cat.png").save(tmp_path / "cup.png")
    Image.new("L", (WIDTH, HEIGHT), 255).save(tmp_path / "mask.png")
    requests = {"cat": "cup.png", "cat-left": "cat.png", "mask": "cup.png"}
    for name, image in requests.items():
        EditRequest((DRAG[1],), image=image, seed=0).save(tmp_path / f"{name}.json")
    masked = json.loads((tmp_path / "cat-left.json").read_text()) | {"mask": {"png": "mask.png"}}
    (tmp_path / "cat-left.json").write_text(json.dumps(masked))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    result = run("batch", tmp_path, "--out", tmp_path)

    assert result.exit_code == 1
    assert "1 done, 2 failed" in result.stdout
    assert re.search(r"cat\.json: .*cat\.png would overwrite the photo of cat-left\.json", result.stderr)
    assert re.search(r"mask\.json: .*mask\.png would overwrite the mask of cat-left\.json", result.stderr)
    assert files(tmp_path) == {*before, "cat-left.png"}
    assert all((tmp_path / name).read_bytes() == data for name, data in before.items())


def test_batch_writes_no_result_that_two_requests_would_have(photo: Path, tmp_path: Path) -> None:
    EditRequest((DRAG[1],), image="photo.png", num_images=2).save(tmp_path / "a.json")
    for name in ("a-1", "b"):
        EditRequest((DRAG[1],), image="photo.png").save(tmp_path / f"{name}.json")

    result = run("batch", tmp_path)

    assert result.exit_code == 1
    for name in ("a", "a-1"):
        said = rf"{name}\.json: .*a-1\.png would be the result of a-1\.json and a\.json"
        assert re.search(said, result.stderr)
    assert files(tmp_path / "results") == {"b.png"}


def test_batch_may_replace_its_own_earlier_results(photo: Path, tmp_path: Path) -> None:
    EditRequest((DRAG[1],), image="photo.png").save(tmp_path / "a.json")
    for _ in range(2):
        assert run("batch", tmp_path).exit_code == 0
    assert files(tmp_path / "results") == {"a.png"}


def test_batch_carries_on_after_a_failure_that_nobody_foresaw(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        EditRequest((DRAG[1],), image="photo.png", seed=0).save(tmp_path / f"{name}.json")
    whole = DragEditor.run

    def first_fails(editor: DragEditor, *arguments: object) -> object:
        monkeypatch.setattr(DragEditor, "run", whole)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(DragEditor, "run", first_fails)
    result = run("batch", tmp_path, "--json")

    assert result.exit_code == 1
    assert "a.json: RuntimeError: out of memory" in result.stderr
    assert files(tmp_path / "results") == {"b.png"}


def test_batch_writes_png_where_a_photos_own_format_cannot_be_written(photo: Path, tmp_path: Path) -> None:
    Image.open(photo).save(tmp_path / "photo.gif")
    EditRequest((DRAG[1],), image="photo.gif").save(tmp_path / "a.json")
    assert run("batch", tmp_path).exit_code == 0
    assert files(tmp_path / "results") == {"a.png"}


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


def test_the_bound_on_pixels_is_the_programs_own_and_not_pillows(tmp_path: Path) -> None:
    """Pillow warns of 144 million pixels, in lines of its own, and 900 million it refuses."""
    for side, bound in ((12_000, []), (30_000, ["--max-pixels", "899999999"])):
        words = ["edit", str(bomb(tmp_path / "b.png", side)), *DRAG, *bound]
        done = subprocess.run([sys.executable, "-m", "lightningdrag", *words], capture_output=True, text=True)
        assert done.returncode == 2
        assert re.fullmatch(r"lightningdrag: error: .*pixels; at most [\d,]+ are taken\n", done.stderr)


class OutOfMemoryError(RuntimeError):
    """As torch has it."""


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (MemoryError(), "fewer candidates"),
        (
            OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            "--option low-memory or fewer candidates",
        ),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            ),
            "fewer candidates",
        ),
    ],
)
def test_too_little_memory_is_one_line(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, hint: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(DragEditor, "run", fail)
    result = run("edit", photo, *DRAG, "-o", tmp_path / "out.png")
    assert result.exit_code == 1
    assert result.stderr == f"lightningdrag: error: out of memory; try {hint}\n"


def test_a_mistake_of_the_program_is_not_taken_for_too_little_memory(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("expected scalar type Half")

    monkeypatch.setattr(DragEditor, "run", fail)
    assert isinstance(run("edit", photo, *DRAG, "-o", tmp_path / "out.png").exception, RuntimeError)


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
    assert re.fullmatch(r"lightningdrag: error: .*/proc.*cannot write.*\n", result.stderr)


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
    assert done.returncode == 1, done.stderr  # the input was right
    assert re.fullmatch(r"lightningdrag: error: .*o\.png: cannot write: .*\n", done.stderr)
    assert files(tmp_path) == {"photo.png"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_is_a_failure_and_no_wrong_input(photo: Path) -> None:
    words = [sys.executable, "-m", "lightningdrag", "edit", photo, *DRAG, "--model", "warp", "-o", "-"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "lightningdrag: error: No space left on device\n"


def test_candidates_are_written_all_or_none(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "o-1.png").write_bytes(b"of an earlier edit")
    job = make_job(str(photo), EditRequest([DRAG[1]], num_images=2), str(tmp_path / "o.png"), {})
    job = replace(job, outputs=(job.outputs[0], str(tmp_path / "gone" / "o-2.png")))
    with pytest.raises(FileNotFoundError, match=r"cannot write: .*o-2\.png"):
        run_job(job, DragEditor.from_pretrained("warp", device="cpu"), "warp", lambda step, total: None)
    assert files(tmp_path) == {"photo.png", "o-1.png"}
    assert (tmp_path / "o-1.png").read_bytes() == b"of an earlier edit"


def test_a_missing_extra_is_named_as_the_repository_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "lightningdrag.service.server", raising=False)
    result = run("serve")
    assert result.exit_code == 1
    assert "run in the repository: pip install '.[service]'" in result.stderr


def test_the_extra_that_is_named_brings_all_that_a_verb_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in ("av", "matplotlib"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, module, None)
            result = run("prepare", tmp_path, "--out", tmp_path / "out")
        assert result.exit_code == 1
        assert result.stderr.count("pip install") == result.stderr.count("pip install '.[train]'") == 1
    assert not list(tmp_path.iterdir())


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
    assert stderr == "stopped\n"
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
