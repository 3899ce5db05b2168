"""Colour files of 16 bits a channel, which Pillow reduces to 8: PNG and TIFF through OpenCV.

OpenCV writes no colour profile, no exact resolution, no EXIF and no XMP, so they are put into the finished
file: as chunks of a PNG (PNG 3 section 11.3), as tags of a TIFF.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags

from lightningdrag.metadata import tiff_tags

if TYPE_CHECKING:
    from lightningdrag.photo import Photo

_PNG = b"\x89PNG\r\n\x1a\n"
_BITS_PER_SAMPLE = 258
_STRIP_OFFSETS = 273
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_ICC_PROFILE = 34675
_METRES_PER_INCH = 0.0254


def bits_per_sample(image: Image.Image, data: bytes) -> int:
    """Bits a channel of a file that Pillow has opened; 8 for all but PNG, TIFF and HEIF."""
    if image.format == "PNG" and len(data) > 24:
        return data[24]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (8,))
        return max(bits) if isinstance(bits, tuple) else int(bits)
    if image.format == "HEIF":
        return image.info.get("bit_depth", 8)
    return 8


def decode_16bit(data: bytes) -> np.ndarray | None:
    """``(H, W, 3 or 4)`` uint16 RGB(A), not yet upright; None if OpenCV reads anything else."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        return None
    for row in pixels:  # BGR to RGB in place, as a second copy of a large photo is hundreds of megabytes
        row[:, :3] = row[:, 2::-1]
    return pixels


def encode_16bit(photo: Photo, kind: str) -> bytes:
    """A photo of uint16 as a "PNG" or "TIFF" file, with all that it carries."""
    if photo.alpha is None:
        pixels = cv2.cvtColor(photo.pixels, cv2.COLOR_RGB2BGR)
    else:
        pixels = cv2.cvtColor(np.dstack((photo.pixels, photo.alpha)), cv2.COLOR_RGBA2BGRA)
    _, encoded = cv2.imencode(".png" if kind == "PNG" else ".tif", pixels)
    data = encoded.tobytes()
    return _png_with(data, photo) if kind == "PNG" else _tiff_with(data, photo)


def _png_with(data: bytes, photo: Photo) -> bytes:
    head = len(_PNG) + 25  # IHDR comes first and always has 25 bytes
    chunks = b""
    if photo.icc_profile:
        chunks += _chunk(b"iCCP" + b"profile\0\0" + zlib.compress(photo.icc_profile))
    if photo.dpi:
        x, y = (round(value / _METRES_PER_INCH) for value in photo.dpi)
        chunks += _chunk(b"pHYs" + struct.pack(">IIB", x, y, 1))  # 1: per metre
    if photo.exif:
        chunks += _chunk(b"eXIf" + photo.exif.removeprefix(b"Exif\0\0"))  # which is JPEG's
    if photo.xmp:
        text = photo.xmp.decode("utf-8", "replace").encode()
        chunks += _chunk(b"iTXt" + b"XML:com.adobe.xmp\0" + bytes(4) + text)  # not compressed, no language
    return data[:head] + chunks + data[head:]


def _chunk(body: bytes) -> bytes:
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _tiff_with(data: bytes, photo: Photo) -> bytes:
    """A directory with more tags, and behind it the whole file as it was, of which only the pixels are read.

    Pillow writes directories for pixels that follow, so it adds its own length to where they begin.
    """
    directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
        for tag, value in image.tag_v2.items():
            directory[tag] = value
    directory.tagtype[_STRIP_OFFSETS] = TiffTags.LONG  # what is short here need not be there
    tags = tiff_tags(photo.exif, photo.xmp)
    for tag in tags:
        directory[tag] = tags.get_ifd(tag) if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) else tags[tag]
    if photo.icc_profile:
        directory[_ICC_PROFILE] = photo.icc_profile
    if photo.dpi:
        directory[_X_RESOLUTION], directory[_Y_RESOLUTION] = photo.dpi
        directory[_RESOLUTION_UNIT] = 2  # inches
    head = io.BytesIO()
    directory.save(head)
    return head.getvalue() + data
