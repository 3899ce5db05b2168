"""Photos from outside, opened with care, and written whole.

A photo may come as a path, bytes, a PIL image or an array.  Bytes and pixels are bounded before
anything is decoded, orientation is applied, and what a photo carries besides its pixels (alpha, ICC
profile, EXIF, XMP, resolution, 16 bits) is kept.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from lightningdrag.decoding import costly
from lightningdrag.drag import brief
from lightningdrag.files import write_atomically
from lightningdrag.metadata import read_dpi, read_exif, read_xmp, save_options
from lightningdrag.sixteen_bit import bits_per_sample, decode_16bit, encode_16bit

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 80_000_000
"""Below Pillow's own warning (``Image.MAX_IMAGE_PIXELS``), which has to be raised too to go beyond."""
MIN_SIDE = 16
MAX_SIDE = 32_766
"""OpenCV samples from no longer images."""

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF", "PPM", "JPEG2000")
"""Plain raster formats only: some of Pillow's others start programs (EPS) or fetch parts."""
WRITABLE = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "HEIF", "BMP")

_ENDINGS = (".avif", ".bmp", ".heic", ".jpg", ".png", ".tif", ".webp")
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {"compress_level": 4},  # half the time of the default for 3 % more bytes
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95, "exact": True},
    "AVIF": {"quality": 90},
    "HEIF": {"quality": 90},
}

ImageLike = str | os.PathLike[str] | bytes | Image.Image | np.ndarray


class PhotoError(ValueError):
    """A photo cannot be opened or written; the message says which, and why."""


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo as the editor holds it, upright.

    Attributes:
        pixels: ``(H, W, 3)`` uint8 or uint16, RGB.
        alpha: ``(H, W)`` of the same type, or None.
        icc_profile: an RGB profile, or None.
        exif: EXIF bytes without orientation, or None.
        xmp: an XMP packet that names no other orientation than upright, or None.
        dpi: pixels an inch, (x, y), or None.
        grey: it has no colours, and edits of it shall have none.
        warnings: what opening had to change.
    """

    pixels: np.ndarray = field(repr=False)
    alpha: np.ndarray | None = field(default=None, repr=False)
    icc_profile: bytes | None = field(default=None, repr=False)
    exif: bytes | None = field(default=None, repr=False)
    xmp: bytes | None = field(default=None, repr=False)
    dpi: tuple[float, float] | None = None
    grey: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes of its pixels, its transparency, and of what it carries besides."""
        alpha = 0 if self.alpha is None else self.alpha.nbytes
        carried = (self.icc_profile, self.exif, self.xmp)
        return self.pixels.nbytes + alpha + sum(len(each) for each in carried if each is not None)

    @property
    def image(self) -> Image.Image:
        """The photo as a new PIL image, RGB or RGBA, 8 bits a channel; changing it changes nothing here."""
        pixels = to_8bit(self.pixels)
        if self.alpha is not None:
            pixels = np.dstack((pixels, to_8bit(self.alpha)))
        image = Image.fromarray(pixels)
        for name in ("icc_profile", "exif", "xmp", "dpi"):
            if value := getattr(self, name):
                image.info[name] = value
        return image

    def with_pixels(self, pixels: np.ndarray, alpha: np.ndarray | None) -> Photo:
        return replace(self, pixels=pixels, alpha=alpha)


def to_8bit(values: np.ndarray) -> np.ndarray:
    """uint16 rounded to uint8 (65535 is 255 * 257); uint8 as it is."""
    if values.dtype == np.uint8:
        return values
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def over_white(image: Image.Image) -> Image.Image:
    """An RGBA image as RGB, for what holds no transparency: what is transparent becomes white."""
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def open_photo(
    source: ImageLike | Photo, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> Photo:
    """Open a photo.

    Args:
        source: a path, the bytes of a file, a PIL image, or an array ``(H, W)``, ``(H, W, 3)`` RGB or
            ``(H, W, 4)`` RGBA of uint8 or uint16. A Photo is returned as it is.
        max_bytes, max_pixels: refuse more than this before decoding.

    Raises:
        PhotoError: no such file, empty, no image, truncated, too large, too small, or of a kind that
            is not handled.
    """
    if isinstance(source, Photo):
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        return _from_pil(source, "the image", max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(source), "the image", max_bytes, max_pixels)
    if isinstance(source, (str, os.PathLike)):
        return _from_bytes(read_bytes(source, max_bytes), os.fspath(source), max_bytes, max_pixels)
    raise PhotoError(f"{brief(source)} is no photo; give a path, bytes, a PIL image or an array")


def read_bytes(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """A file's bytes, bounded.

    Raises:
        PhotoError: no such file, a folder, unreadable, or larger than ``max_bytes``.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise PhotoError(f"no such file: {os.fspath(path)}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise PhotoError(f"cannot read {os.fspath(path)!r}: {reason}") from None
    if len(data) > max_bytes:
        raise PhotoError(f"{os.fspath(path)} is larger than {max_bytes:,} bytes")
    return data


def _from_bytes(data: bytes, name: str, max_bytes: int, max_pixels: int) -> Photo:
    if not data:
        raise PhotoError(f"{name} is empty (0 bytes)")
    if len(data) > max_bytes:
        raise PhotoError(f"{name} has {len(data):,} bytes; at most {max_bytes:,} are taken")
    if reason := costly(data):
        raise PhotoError(f"{name} {reason}")
    _init_formats()
    known = [name for name in FORMATS if name in Image.OPEN]
    try:
        image = Image.open(io.BytesIO(data), formats=known)
    except Image.DecompressionBombError as error:
        raise PhotoError(f"{name} is too large: {error}") from None
    except UnidentifiedImageError:
        if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and "HEIF" not in known:
            raise PhotoError(
                f"{name} is HEIF; to read it, run in the repository: pip install '.[heif]'"
            ) from None
        raise PhotoError(f"{name} is not an image in a format that can be read") from None
    except Exception as error:  # decoders of hostile files raise anything
        raise PhotoError(f"{name} is not a readable image: {error}") from None
    with image:
        return _from_pil(image, name, max_pixels, data)


def _from_array(array: np.ndarray, max_pixels: int) -> Photo:
    if array.dtype not in (np.uint8, np.uint16):
        raise PhotoError(f"the array is {array.dtype}; give uint8 (0..255) or uint16 (0..65535)")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise PhotoError(f"the array has shape {array.shape}; give (H, W), (H, W, 3) RGB or (H, W, 4) RGBA")
    _check_size(array.shape[1], array.shape[0], "the array", max_pixels)
    alpha = None
    if array.ndim == 3 and array.shape[2] == 4:
        alpha = array[..., 3].copy()
    grey = array.ndim == 2 or array.shape[2] == 1
    if grey:
        array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return Photo(np.array(array[..., :3], order="C"), alpha, grey=grey)


def _from_pil(image: Image.Image, name: str, max_pixels: int, data: bytes = b"") -> Photo:
    _check_size(*image.size, name, max_pixels)
    try:
        warnings = [] if image.format == "MPO" else _frames_warning(image)
        image.load()  # also of what is decoded anew below: it finds damage, and metadata behind the pixels
        exif = image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        kept = read_exif(exif, *(image.size[::-1] if orientation in _SIDEWAYS else image.size), warnings)
        pixels, icc_profile = _rgb(image, data, warnings)
    except PhotoError as error:
        raise PhotoError(f"{name}: {error}") from None
    except Exception as error:  # decoders of hostile files raise anything
        raise PhotoError(f"{name} is damaged or truncated: {error}") from None
    pixels = _upright(pixels, orientation)
    alpha = np.ascontiguousarray(pixels[..., 3]) if pixels.shape[2] == 4 else None
    pixels = np.ascontiguousarray(pixels[..., :3])
    grey = image.mode[:1] in ("1", "L", "I") and image.mode != "LAB"
    return Photo(pixels, alpha, icc_profile, kept, read_xmp(image), read_dpi(image), grey, tuple(warnings))


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise PhotoError(
            f"{name} is {width}x{height}, {width * height:,} pixels; at most {max_pixels:,} are taken"
        )
    if max(width, height) > MAX_SIDE:
        raise PhotoError(f"{name} is {width}x{height}; at most {MAX_SIDE:,} pixels a side are taken")
    if min(width, height) < MIN_SIDE:
        raise PhotoError(f"{name} is {width}x{height}; at least {MIN_SIDE} pixels a side are needed")


def _frames_warning(image: Image.Image) -> list[str]:
    """How many they are is not asked: Pillow walks all pages of a TIFF to count them, slower with each."""
    several = getattr(image, "is_animated", False)
    return ["more than one frame or page; the first was taken"] if several else []


def _rgb(image: Image.Image, data: bytes, warnings: list[str]) -> tuple[np.ndarray, bytes | None]:
    """Pixels as RGB or RGBA, uint8 or uint16, with the profile that goes with them."""
    if image.mode == "F":
        raise PhotoError("floating-point pixels are not handled; convert to 8 or 16 bits")
    profile = image.info.get("icc_profile") or None
    bits = bits_per_sample(image, data) if data else 8
    converted: np.ndarray | Image.Image
    if image.mode.startswith("I"):
        converted = _grey_16bit(image)
    elif bits == 16 and image.mode in ("RGB", "RGBA"):
        converted = _sixteen_bits(image, data)
    elif image.has_transparency_data:
        converted = image if image.mode == "RGBA" else image.convert("RGBA")
    elif profile and image.mode in ("L", "CMYK", "LAB") and profile[16:20] != b"RGB ":
        converted, profile = _to_srgb(image, profile, warnings), None
    else:
        converted = image if image.mode == "RGB" else image.convert("RGB")
    if image.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
        warnings.append(f"converted from {image.mode} to RGB")
    if profile and profile[16:20] != b"RGB ":
        warnings.append("the colour profile does not fit RGB and was dropped")
        profile = None
    pixels = np.asarray(converted)
    if bits > 8 and pixels.dtype == np.uint8:
        warnings.append(f"{bits} bits a channel reduced to 8")
    return pixels, profile


def _sixteen_bits(image: Image.Image, data: bytes) -> np.ndarray:
    """What Pillow has reduced to 8 bits a channel, from its file once more; 8 bits if OpenCV reads none."""
    image.close()  # its pixels and those that OpenCV needs would be the most held at a time
    channels = 4 if image.has_transparency_data else 3
    pixels = decode_16bit(data)
    if pixels is not None and pixels.shape[1::-1] == image.size and pixels.shape[2] >= channels:
        return pixels[..., :channels]
    with Image.open(io.BytesIO(data), formats=[str(image.format)]) as again:
        return np.asarray(again.convert("RGBA" if channels == 4 else "RGB"))


def _grey_16bit(image: Image.Image) -> np.ndarray:
    grey = np.asarray(image)
    if grey.min() < 0 or grey.max() > 65535:
        raise PhotoError(f"values of {grey.min()}..{grey.max()} are not handled; at most 16 bits are")
    channels = [grey.astype(np.uint16)] * 3
    if isinstance(clear := image.info.get("transparency"), int):
        channels.append(np.where(grey == clear, 0, 65535).astype(np.uint16))
    return np.stack(channels, axis=2)


def _to_srgb(image: Image.Image, profile: bytes, warnings: list[str]) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        if converted is not None:
            return converted
    except (ImageCms.PyCMSError, OSError):
        pass
    warnings.append("the colour profile could not be applied and was dropped")
    return image.convert("RGB")


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation, 1..8."""
    if orientation in _SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


@cache
def _init_formats() -> None:
    """Make Pillow know its own formats, and HEIF where the extra is installed."""
    Image.init()
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return
    register_heif_opener()


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that a file's name asks for.

    Raises:
        PhotoError: no ending, or one that cannot be written.
    """
    ending = Path(path).suffix.lower()
    _init_formats()
    kind = Image.registered_extensions().get(ending)
    if Path(path).is_dir():
        raise PhotoError(f"{os.fspath(path)} is a folder; give a file's name in it")
    if kind not in WRITABLE or kind not in Image.SAVE:
        kinds = Image.registered_extensions()
        known = [each for each in _ENDINGS if kinds.get(each) in WRITABLE and kinds[each] in Image.SAVE]
        more = "" if ".heic" in known else "; for .heic run in the repository: pip install '.[heif]'"
        raise PhotoError(
            f"{os.fspath(path)} ends in {ending or 'nothing'}; photos are written as {', '.join(known)}{more}"
        )
    return kind


def encode_photo(photo: Photo, kind: str = "PNG") -> tuple[bytes, list[str]]:
    """A photo as the bytes of a file, and what the format could not keep.

    JPEG is written at quality 95 without chroma subsampling, WebP at 95, AVIF and HEIF at 90; 16 bits
    are kept by PNG and TIFF.

    Raises:
        PhotoError: if the format cannot hold the photo (its side is too long).
    """
    if photo.pixels.dtype == np.uint16 and kind in ("PNG", "TIFF"):
        return encode_16bit(photo, kind), []
    notes = []
    if photo.pixels.dtype == np.uint16:
        notes.append(f"{kind} holds 8 bits a channel; 16 were reduced")
    image = photo.image
    if photo.alpha is not None and kind in ("JPEG", "BMP"):
        notes.append(f"{kind} holds no transparency; the photo was laid over white")
        image = over_white(image)
    carried, lost = save_options(photo, kind)
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **_SAVE_OPTIONS.get(kind, {}), **carried)
    except Exception as error:  # encoders raise anything, too
        raise PhotoError(f"cannot write {photo.width}x{photo.height} as {kind}: {error}") from None
    return buffer.getvalue(), notes + lost


def save_photo(photo: Photo, path: str | os.PathLike[str]) -> list[str]:
    """Write a photo in the format that the name asks for, whole or not at all.

    Returns:
        What the format could not keep, in words.

    Raises:
        PhotoError: unknown ending, no such folder, read-only, full disk.
    """
    data, notes = encode_photo(photo, format_of(path))
    try:
        write_atomically(path, data)
    except OSError as error:
        raise PhotoError(f"cannot write {os.fspath(path)}: {os.strerror(error.errno or 0)}") from None
    return notes
