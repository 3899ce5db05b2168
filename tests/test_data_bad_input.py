"""Files that are no usable video are skipped with their reason; the rest is prepared."""

from __future__ import annotations

import json
import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_runs import plan, run
from data_scenes import square_film, write_video
from lightningdrag.commands import build_app
from lightningdrag.data import open_shards, storage
from lightningdrag.data.recipe import Amounts, DataRecipe
from lightningdrag.data.samples import run_task
from lightningdrag.data.tasks import find_videos, photo_tasks, video_tasks
from lightningdrag.data.video import Video


def write_audio(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        for _ in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_wide(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 16384, 16, "yuvj420p"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame(16384, 16, "yuvj420p")))
        container.mux(stream.encode())


def write_encrypted(path: Path) -> None:
    key = {"encryption_key": "00112233445566778899aabbccddeeff", "encryption_kid": "0" * 32}
    with av.open(str(path), "w", options={"encryption_scheme": "cenc-aes-ctr", **key}) as container:
        stream = container.add_stream("libx264", rate=10)
        film = square_film(3)
        stream.height, stream.width = film.shape[1:3]
        for image in film:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def woven(film: np.ndarray) -> np.ndarray:
    """Each frame of every other line of one frame and of the next: what interlaced video looks like."""
    odd = film[:-1].copy()
    odd[:, 1::2] = film[1:, 1::2]
    return odd


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One of each kind beside two good ones; the reasons that the report gives, by file."""
    folder = tmp_path_factory.mktemp("bad") / "videos"
    folder.mkdir()
    good = write_video(folder / "кошка 猫 قطة.mkv", square_film(6, (6, 2))).read_bytes()
    (folder / "ὠ copy.mkv").write_bytes(good)
    write_video(folder / "wrong-suffix.mkv", square_film(5, (5, 2), seed=3)).rename(folder / "wrong.avi")
    long = write_video(folder / "damaged.mkv", square_film(24, (4, 1), seed=4)).read_bytes()
    (folder / "damaged.mkv").write_bytes(long[: len(long) // 2])
    (folder / "cut off.mp4").write_bytes(write_video(folder / "t.mp4", square_film(3)).read_bytes()[:4000])
    (folder / "t.mp4").unlink()
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video " * 1000)
    (folder / os.fsdecode(b"\xff\xfe.mp4")).write_text("no video, and no name")
    write_audio(folder / "sound.mp4")
    write_video(folder / "one.mkv", square_film(1))
    write_encrypted(folder / "locked.mp4")
    write_wide(folder / "wide.avi")
    write_video(folder / "woven.mkv", woven(square_film(8, (7, 1))))
    out, config = folder.parent / "out", folder.parent / "recipe.yaml"
    config.write_text("amounts: {per_group: 2}")
    result = CliRunner().invoke(
        build_app(), ["prepare", str(folder), "--out", str(out), "--config", str(config)]
    )
    assert result.exit_code == 1, result.output
    assert "11 inputs skipped" in result.output
    assert set(open_shards(out).clips) == {"кошка 猫 قطة", "wrong", "damaged"}
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return {one["place"]: one["reason"] for one in report["skipped"]}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ὠ copy.mkv", "the same file as кошка 猫 قطة.mkv"),
        ("damaged.mkv", "damaged: used up to there"),
        ("cut off.mp4", "not a video"),
        ("empty.mp4", "empty file"),
        ("text.mp4", "not a video"),
        ("\ufffd\ufffd.mp4", "not a video"),
        ("sound.mp4", "no video stream"),
        ("one.mkv", "only one frame"),
        ("locked.mp4", "encrypted"),
        ("wide.avi", "frames larger than 8192 px"),
        ("woven.mkv", "interlaced"),
    ],
)
def test_every_bad_video_is_reported_with_its_reason(bad: dict[str, str], name: str, reason: str) -> None:
    assert bad[name] == reason


def test_a_whole_film_with_fine_lines_is_not_interlaced(tmp_path: Path) -> None:
    film = square_film(6)
    film[:, ::2, 130:] //= 2  # stripes a line wide
    assert len(list(Video(write_video(tmp_path / "film.mkv", film)).pieces())) == 1


def test_of_a_title_card_between_black_bars_too_little_is_left(tmp_path: Path) -> None:
    film = square_film(6)
    film[:, :60], film[:, 72:] = 0, 0  # DIS flow would not survive the rest
    (tmp_path / "films").mkdir()
    write_video(tmp_path / "films" / "title.mkv", film)
    result = run(plan(tmp_path / "films"), tmp_path / "out")
    assert (result.pairs, result.dropped, result.skipped) == (0, {"too small": 1}, [])


@pytest.mark.parametrize(
    ("size", "reason"), [((9000, 80), "larger than 8192 px"), ((200, 40), "smaller than 64 px")]
)
def test_photos_are_bounded_before_they_are_decoded(
    tmp_path: Path, size: tuple[int, int], reason: str
) -> None:
    Image.new("1", size).save(tmp_path / "photo.png")
    (task,) = photo_tasks(str(tmp_path), [], DataRecipe())
    assert [one.reason for one in run_task(task, DataRecipe()).skipped] == [reason]


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])  # the latter says only how long all of it is
def test_sound_that_goes_on_after_the_pictures_is_no_damage(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=10)
        sound = container.add_stream("aac", rate=44100)
        film = square_film(10)
        pictures.height, pictures.width = film.shape[1:3]
        for image in film:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(pictures.encode())
        for _ in range(170):  # 4 seconds
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44100
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    video = Video(path)
    assert [len(piece) for piece in video.pieces()] == [10]
    assert video.seconds == pytest.approx(1 if name.endswith("mp4") else 4, abs=0.1)
    assert not video.damaged


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "closed").mkdir()
    write_video(tmp_path / "open" / "a.mkv", square_film(2))
    if os.geteuid() == 0:  # root may read everything
        scan = os.scandir

        def refuse(path: str) -> object:
            if str(path).endswith("closed"):
                raise PermissionError(13, "Permission denied", str(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", refuse)
    else:
        (tmp_path / "closed").chmod(0)
    videos, skipped, _ = find_videos([str(tmp_path)])
    (tmp_path / "closed").chmod(0o700)
    assert list(videos) == ["open/a.mkv"]
    assert [(Path(one.place).name, one.reason) for one in skipped] == [("closed", "folder may not be read")]


def test_of_two_files_of_one_size_one_that_may_not_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.mkv", "b.mkv", "c.mkv"):
        (tmp_path / name).write_bytes(b"the same")
    read = storage.sha256

    def refuse(place: str) -> str:
        if place.endswith("b.mkv"):
            raise PermissionError(13, "Permission denied", place)
        return read(place)

    monkeypatch.setattr(storage, "sha256", refuse)
    videos, skipped, _ = find_videos([str(tmp_path)])
    assert list(videos) == ["a.mkv"]
    assert [(one.place, one.reason) for one in skipped] == [
        ("b.mkv", "may not be read"),
        ("c.mkv", "the same file as a.mkv"),
    ]


def test_a_clip_held_out_by_the_name_of_its_copy_is_held_out(tmp_path: Path) -> None:
    for name in ("a.mkv", "z.mkv"):
        (tmp_path / name).write_bytes(b"the same")
    (tmp_path / "like z.mkv").write_bytes(b"another")
    videos, _, copies = find_videos([str(tmp_path)])
    manifest = {"z.mkv": {"group": "g"}, "like z.mkv": {"group": "g"}}
    tasks = video_tasks(videos, manifest, {"z.mkv"}, Amounts(), copies)
    assert [(task.clip, task.split) for task in tasks] == [("a", "dev")]


def test_videos_of_one_name_in_two_folders_are_two_clips(tmp_path: Path) -> None:
    for k, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        write_video(tmp_path / name / "film.mkv", square_film(2, seed=k))
    videos, skipped, _ = find_videos([str(tmp_path)])
    assert sorted(videos) == ["a/film.mkv", "b/film.mkv"]
    assert not skipped
