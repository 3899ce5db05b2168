"""Photos from outside: what comes in is kept, what cannot come in is refused in one clear line."""

from __future__ import annotations

import io
import lzma
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from lightningdrag.photo import Photo, PhotoError, encode_photo, open_photo, save_photo, to_8bit
from wrong_input import paged_tiff

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape: int, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path) -> None:
    pixels = noise(20, 30, 3)
    data = file_of(Image.fromarray(pixels))
    (tmp_path / "photo.png").write_bytes(data)
    for source in (
        pixels,
        data,
        Image.fromarray(pixels),
        tmp_path / "photo.png",
        str(tmp_path / "photo.png"),
    ):
        photo = open_photo(source)
        assert np.array_equal(photo.pixels, pixels)
        assert (photo.width, photo.height, photo.alpha, photo.warnings) == (30, 20, None, ())
    assert open_photo(photo) is photo


def test_an_array_given_is_not_shared() -> None:
    pixels = noise(20, 30, 3)
    photo = open_photo(pixels)
    pixels[:] = 0
    assert photo.pixels.any()


@pytest.mark.parametrize("channels", [3, 4])
def test_changing_the_image_of_a_photo_does_not_change_what_is_written(channels: int) -> None:
    photo = open_photo(noise(20, 30, channels))
    before, _ = encode_photo(photo)
    photo.image.thumbnail((8, 8))
    photo.image.paste("red", (0, 0, 20, 20))
    assert photo.image.size == (30, 20)
    assert encode_photo(photo)[0] == before


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_not_kept(orientation: int) -> None:
    pixels = noise(16, 24, 3)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Maker"
    photo = open_photo(file_of(Image.fromarray(pixels), exif=exif))
    upright = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1),
        7: np.rot90(pixels, 2).swapaxes(0, 1),
        8: np.rot90(pixels),
    }[orientation]
    assert np.array_equal(photo.pixels, upright)
    saved = Image.open(io.BytesIO(encode_photo(photo, "PNG")[0])).getexif()
    assert saved[ExifTags.Base.Make] == "Maker"
    assert saved.get(ExifTags.Base.Orientation, 1) == 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_profile_exif_and_alpha_are_kept(kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"comment"
    image = Image.fromarray(noise(20, 30, 4))
    photo = open_photo(file_of(image, icc_profile=SRGB, exif=exif))
    path = tmp_path / f"out.{kind.lower()}"
    assert save_photo(photo, path) == []
    again = open_photo(path)
    assert again.icc_profile == SRGB
    assert np.array_equal(again.alpha, np.asarray(image)[..., 3])
    saved = Image.open(path).getexif()
    assert saved[ExifTags.Base.Make] == "Maker"
    if kind != "TIFF":
        assert saved.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] == b"comment"


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_are_kept_with_their_profile(ending: str, channels: int, tmp_path: Path) -> None:
    pixels = noise(20, 30, channels, dtype=np.uint16)
    photo = open_photo(pixels)
    photo = Photo(photo.pixels, photo.alpha, SRGB)
    assert save_photo(photo, tmp_path / f"deep{ending}") == []
    again = open_photo(tmp_path / f"deep{ending}")
    assert np.array_equal(again.pixels, pixels[..., :3])
    assert channels == 3 or np.array_equal(again.alpha, pixels[..., 3])
    assert again.icc_profile == SRGB
    assert again.image.mode == "RGB" if channels == 3 else "RGBA"


def test_sixteen_bits_are_turned_upright_too(tmp_path: Path) -> None:
    pixels = noise(16, 24, 3, dtype=np.uint16)
    _, encoded = cv2.imencode(".png", pixels[..., ::-1])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    body = b"eXIf" + exif.tobytes()[6:]
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    data = encoded.tobytes()
    assert np.array_equal(open_photo(data[:33] + chunk + data[33:]).pixels, np.rot90(pixels, -1))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
@pytest.mark.parametrize("channels", [3, 4])
def test_opening_sixteen_bits_holds_little_more_than_the_photo_twice(channels: int, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((2000, 2500, channels), 40_000, np.uint16))
    script = (
        "import sys; from pathlib import Path; from lightningdrag.photo import open_photo\n"
        "def peak():\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith('VmHWM'))\n"
        "before = peak()\n"
        "photo = open_photo(sys.argv[1])\n"
        "print((peak() - before) / photo.nbytes)"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "deep.png")]
    assert float(subprocess.run(words, capture_output=True, check=True).stdout) < 2.5


def test_sixteen_bits_that_only_pillow_reads_become_eight_and_this_is_said() -> None:
    """OpenCV's TIFF knows no LZMA."""
    pixels = noise(16, 24, 3, dtype=np.uint16)
    strip = lzma.compress(pixels.tobytes())
    strip += bytes(len(strip) % 2)
    directory = 8 + len(strip)
    tags = {256: 24, 257: 16, 259: 34925, 262: 2, 273: 8, 277: 3, 278: 16, 279: len(strip), 284: 1}
    entries = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()}
    entries[258] = struct.pack("<HHII", 258, 3, 3, directory + 2 + 12 * 10 + 4)
    data = struct.pack("<2sHI", b"II", 42, directory) + strip + struct.pack("<H", len(entries))
    data += b"".join(entries[tag] for tag in sorted(entries)) + struct.pack("<I3H", 0, 16, 16, 16)
    photo = open_photo(data)
    assert np.array_equal(photo.pixels, pixels >> 8)
    assert photo.warnings == ("16 bits a channel reduced to 8",)


def test_sixteen_bit_grey_is_read(tmp_path: Path) -> None:
    grey = noise(20, 30, dtype=np.uint16)
    for ending in (".png", ".tif"):
        _, encoded = cv2.imencode(ending, grey)
        assert np.array_equal(open_photo(encoded.tobytes()).pixels[..., 1], grey)


@pytest.mark.parametrize(
    ("mode", "grey"), [("L", True), ("1", True), ("LA", True), ("I;16", True), ("RGB", False)]
)
def test_what_has_no_colours_is_known_as_grey(mode: str, grey: bool) -> None:
    assert open_photo(Image.new(mode, (20, 20))).grey == grey
    assert open_photo(np.zeros((20, 20), np.uint8)).grey
    assert "pixels" not in repr(open_photo(Image.new(mode, (20, 20))))


def test_what_is_clear_in_sixteen_bit_grey_stays_clear() -> None:
    buffer = io.BytesIO()
    grey = np.full((20, 20), 1000, np.uint16)
    grey[5, 5] = 40_000
    Image.fromarray(grey).save(buffer, "PNG", transparency=40_000)
    photo = open_photo(buffer.getvalue())
    assert photo.alpha is not None
    assert photo.alpha[5, 5] == 0
    assert (photo.alpha == 0).sum() == 1
    assert photo.alpha.max() == 65535


def test_the_profile_of_a_sixteen_bit_grey_image_is_kept_where_it_fits_rgb_else_its_loss_is_said() -> None:
    grey = Image.fromarray(noise(20, 30, dtype=np.uint16))
    profile = SRGB[:16] + b"GRAY" + SRGB[20:]
    photo = open_photo(file_of(grey, icc_profile=profile))
    assert (photo.icc_profile, photo.warnings) == (
        None,
        ("the colour profile does not fit RGB and was dropped",),
    )
    photo = open_photo(file_of(grey, icc_profile=SRGB))
    assert (photo.icc_profile, photo.warnings) == (SRGB, ())


def test_sixteen_bits_become_eight_by_rounding() -> None:
    values = np.arange(0, 65536, dtype=np.uint16)
    assert np.array_equal(to_8bit(values), np.rint(values / 257).astype(np.uint8))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "LAB", "HSV"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    flat = Image.new("RGB", (30, 20), (255, 255, 255)).convert("RGBA" if mode == "RGBA" else "RGB")
    image = (
        ImageCms.profileToProfile(
            flat, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
        if mode == "LAB"
        else flat.convert(mode)
    )
    photo = open_photo(image)
    assert photo.pixels.shape == (20, 30, 3)
    assert photo.pixels.min() >= 250
    assert (photo.alpha is not None) == (mode in ("LA", "RGBA"))
    assert bool(photo.warnings) == (mode in ("CMYK", "YCbCr", "LAB", "HSV"))


def test_a_palette_with_transparency_becomes_alpha() -> None:
    image = Image.fromarray(np.repeat(np.arange(20, dtype=np.uint8)[:, None], 30, 1), "P")
    image.putpalette([value for value in range(256) for _ in range(3)])
    photo = open_photo(file_of(image, transparency=5))
    assert photo.alpha is not None
    assert (photo.alpha[5] == 0).all()
    assert (photo.alpha[6] == 255).all()


def test_the_first_frame_of_an_animation_is_taken_and_said() -> None:
    frames = [Image.fromarray(noise(20, 30, 3, seed=seed)) for seed in range(3)]
    photo = open_photo(file_of(frames[0], "PNG", save_all=True, append_images=frames[1:]))
    assert np.array_equal(photo.pixels, np.asarray(frames[0]))
    assert photo.warnings == ("more than one frame or page; the first was taken",)


def test_the_pages_behind_the_first_are_not_read(tmp_path: Path) -> None:
    """Pillow counts them one by one, each slower than the last: ten times as many take minutes."""
    photo = open_photo(paged_tiff(tmp_path / "pages.tif", 20_000))
    assert (photo.width, photo.height) == (16, 16)
    assert photo.warnings == ("more than one frame or page; the first was taken",)


def test_avif_is_read_where_pillow_can() -> None:
    image = Image.new("RGB", (64, 48), (200, 100, 50))
    if "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow has no AVIF")
    photo = open_photo(file_of(image, "AVIF"))
    assert np.abs(photo.pixels.astype(int) - (200, 100, 50)).max() < 8


def heif(pixels: np.ndarray, **options: object) -> bytes:
    """As a telephone writes it; Pillow is not told of the format here."""
    buffer = io.BytesIO()
    image = pytest.importorskip("pillow_heif").from_bytes("RGB", pixels.shape[1::-1], pixels.tobytes())
    image.save(buffer, **options)
    return buffer.getvalue()


def test_heif_is_read_and_written_with_what_it_carries(tmp_path: Path) -> None:
    pixels = np.full((48, 64, 3), (200, 100, 50), np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    (tmp_path / "photo.heic").write_bytes(heif(pixels, exif=exif.tobytes(), icc_profile=SRGB))
    photo = open_photo(tmp_path / "photo.heic")
    assert photo.warnings == ()
    assert save_photo(photo, tmp_path / "out.HEIC") == []
    for each in (photo, open_photo(tmp_path / "out.HEIC")):
        assert np.abs(each.pixels.astype(int) - pixels).max() < 8
        assert each.icc_profile == SRGB
        assert each.image.getexif()[ExifTags.Base.Make] == "Maker"


def test_heif_is_bounded_and_refused_when_truncated() -> None:
    data = heif(noise(64, 64, 3))
    with pytest.raises(PhotoError, match="64x64, 4,096 pixels; at most 4,095"):
        open_photo(data, max_pixels=4_095)
    with pytest.raises(PhotoError, match=r"damaged or truncated|not"):
        open_photo(data[: len(data) * 2 // 3])


def test_heif_of_ten_bits_says_that_it_becomes_eight() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    deep = pillow_heif.from_bytes("RGB;16", (64, 48), noise(48, 64, 3, dtype=np.uint16).tobytes())
    buffer = io.BytesIO()
    deep.save(buffer)
    assert open_photo(buffer.getvalue()).warnings == ("10 bits a channel reduced to 8",)


def test_heif_without_its_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    open_photo(file_of(Image.fromarray(noise(20, 30, 3))))  # the extra's formats are known by now
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(
        PhotoError, match=r"the image is HEIF; to read it, run in the repository: pip install '\.\[heif\]'"
    ):
        open_photo(b"\0\0\0\x1cftypheic" + bytes(100))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (b"", "empty"),
        (b"GIF89a", "not"),
        (b"no image at all", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "not an image"),
        ("no/such/photo.png", "no such file: no/such/photo.png"),
        ("nul\0name.png", "cannot read"),
        (".", "cannot read"),
        (np.zeros((20, 30, 3), np.float32), "float32; give uint8"),
        (np.zeros((20, 30, 2), np.uint8), r"shape \(20, 30, 2\)"),
        (np.zeros((20, 8, 3), np.uint8), "8x20; at least 16"),
        (np.zeros((16, 32_767), np.uint8), "32767x16; at most 32,766 pixels a side"),
        (Image.new("F", (20, 20)), "floating-point"),
        (Image.new("I", (20, 20), 70000), "at most 16 bits"),
        (42, "no photo"),
    ],
)
def test_what_is_no_photo_is_refused(source: object, says: str) -> None:
    with pytest.raises(PhotoError, match=says):
        open_photo(source)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_a_truncated_photo_is_refused(kind: str) -> None:
    data = file_of(Image.fromarray(noise(64, 64, 3)), kind)
    with pytest.raises(PhotoError, match=r"damaged or truncated|not"):
        open_photo(data[: len(data) * 2 // 3])


def test_a_truncated_sixteen_bit_photo_is_refused() -> None:
    _, encoded = cv2.imencode(".png", noise(64, 64, 3, dtype=np.uint16))
    with pytest.raises(PhotoError, match="truncated"):
        open_photo(encoded.tobytes()[:-4000])


def test_bytes_and_pixels_are_bounded_before_decoding(tmp_path: Path) -> None:
    data = file_of(Image.new("1", (20_000, 20_000)))
    with pytest.raises(PhotoError, match="exceeds limit"):
        open_photo(data)
    data = file_of(Image.new("1", (200, 200)))
    with pytest.raises(PhotoError, match="200x200, 40,000 pixels; at most 39,999"):
        open_photo(data, max_pixels=39_999)
    (tmp_path / "photo.png").write_bytes(data)
    with pytest.raises(PhotoError, match="larger than 10 bytes"):
        open_photo(tmp_path / "photo.png", max_bytes=10)
    with pytest.raises(PhotoError, match="at most 10"):
        open_photo(data, max_bytes=10)


def jpeg_with_scans(again: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        buffer, "JPEG", progressive=True
    )
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * again + b"\xff\xd9"


def test_what_takes_long_to_decode_is_refused() -> None:
    open_photo(jpeg_with_scans(20))
    with pytest.raises(PhotoError, match="more than 64 scans"):
        open_photo(jpeg_with_scans(100))
    with pytest.raises(PhotoError, match="plain text"):
        open_photo(b"P3\n" + b"#\n" * 1000 + b"20 20\n255\n" + b"0 " * 1200)


def test_pictures_within_a_jpeg_or_behind_it_count_for_nothing() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(buffer, "JPEG", comment=b"\xff\xda" * 100)
    open_photo(buffer.getvalue() + b"\xff\xda" * 1000)


def test_a_photos_bytes_are_those_of_all_it_holds() -> None:
    plain = Photo(noise(20, 30, 3, dtype=np.uint16))
    assert plain.nbytes == 20 * 30 * 3 * 2
    rich = Photo(plain.pixels, noise(20, 30, dtype=np.uint16), icc_profile=SRGB, exif=b"12345", xmp=b"123")
    assert rich.nbytes == plain.nbytes + 20 * 30 * 2 + len(SRGB) + 5 + 3


def test_jpeg_is_written_finely_and_says_that_transparency_is_lost(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :64]
    pixels = np.dstack((x * 4, y * 4, x + y)).astype(np.uint8)
    photo = Photo(pixels, np.full((64, 64), 255, np.uint8), SRGB)
    notes = save_photo(photo, tmp_path / "out.jpg")
    assert notes == ["JPEG holds no transparency; the photo was laid over white"]
    saved = Image.open(tmp_path / "out.jpg")
    assert saved.info["icc_profile"] == SRGB
    assert np.abs(np.asarray(saved).astype(int) - pixels).mean() < 1.5


def test_where_a_photo_cannot_be_written_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    photo = Photo(noise(20, 30, 3))
    with pytest.raises(PhotoError, match=r"ends in \.txt"):
        save_photo(photo, tmp_path / "out.txt")
    with pytest.raises(PhotoError, match="ends in nothing"):
        save_photo(photo, tmp_path / "out")
    with pytest.raises(PhotoError, match="No such file or directory"):
        save_photo(photo, tmp_path / "missing" / "out.png")
    (tmp_path / "dir.png").mkdir()
    for folder in (tmp_path, tmp_path / "dir.png"):
        with pytest.raises(PhotoError, match="is a folder; give a file's name in it"):
            save_photo(photo, folder)
    with pytest.raises(PhotoError, match="cannot write 70000x16 as JPEG"):
        save_photo(Photo(noise(16, 70000, 3)), tmp_path / "long.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["dir.png"]


def test_a_full_disk_is_said_and_the_old_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    (tmp_path / "out.png").write_bytes(b"old")
    real = Path.open

    def full(path: Path, mode: str = "r") -> Any:
        real(path, mode).close()
        return real(Path("/dev/full"), "wb")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(PhotoError, match=r"cannot write .*out\.png: No space left"):
        save_photo(Photo(noise(20, 30, 3)), tmp_path / "out.png")
    monkeypatch.undo()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("out.png", b"old")]
