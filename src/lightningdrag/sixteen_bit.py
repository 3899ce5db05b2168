"""Colour files of 16 bits a channel, which Pillow reduces to 8: PNG and TIFF through OpenCV.

OpenCV writes no colour profile and no exact resolution, so they are put into the finished file: as chunks
of a PNG, as tags of a TIFF (PNG 1.2 sections 4.2.2.4 and 4.2.4.2, TIFF 6.0 section 2 and ICC.1 annex B).
"""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

_PNG = b"\x89PNG\r\n\x1a\n"
_BITS_PER_SAMPLE = 258
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_ICC_PROFILE = 34675
_SHORT, _RATIONAL, _UNDEFINED = 3, 5, 7
_MOST_SHORT = 65535
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
    order = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return cv2.cvtColor(pixels, order)


def encode_16bit(
    pixels: np.ndarray,
    alpha: np.ndarray | None,
    kind: str,
    icc_profile: bytes | None,
    dpi: tuple[float, float] | None,
) -> bytes:
    """``(H, W, 3)`` uint16 RGB as a "PNG" or "TIFF" file."""
    if alpha is None:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    else:
        pixels = cv2.cvtColor(np.dstack((pixels, alpha)), cv2.COLOR_RGBA2BGRA)
    _, encoded = cv2.imencode(".png" if kind == "PNG" else ".tif", pixels)
    data = encoded.tobytes()
    return _png_with(data, icc_profile, dpi) if kind == "PNG" else _tiff_with(data, icc_profile, dpi)


def _png_with(data: bytes, profile: bytes | None, dpi: tuple[float, float] | None) -> bytes:
    head = len(_PNG) + 25  # IHDR comes first and always has 25 bytes
    chunks = b""
    if profile:
        chunks += _chunk(b"iCCP" + b"profile\0\0" + zlib.compress(profile))
    if dpi:
        x, y = (round(value / _METRES_PER_INCH) for value in dpi)
        chunks += _chunk(b"pHYs" + struct.pack(">IIB", x, y, 1))  # 1: per metre
    return data[:head] + chunks + data[head:]


def _chunk(body: bytes) -> bytes:
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _tiff_with(data: bytes, profile: bytes | None, dpi: tuple[float, float] | None) -> bytes:
    """Append the values and a new directory that names them, and point the header there."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    entries = {data[at : at + 2]: data[at : at + 12] for at in range(start + 2, start + 2 + 12 * count, 12)}
    added = [(_ICC_PROFILE, _UNDEFINED, len(profile), profile)] if profile else []
    if dpi:
        x, y = (Fraction(value).limit_denominator(_MOST_SHORT) for value in dpi)
        added += [
            (_X_RESOLUTION, _RATIONAL, 1, struct.pack(order + "II", x.numerator, x.denominator)),
            (_Y_RESOLUTION, _RATIONAL, 1, struct.pack(order + "II", y.numerator, y.denominator)),
            (_RESOLUTION_UNIT, _SHORT, 1, struct.pack(order + "HH", 2, 0)),  # 2: inches
        ]
    for tag, kind, length, value in added:
        if len(value) > 4:
            data += bytes(len(data) % 2)
            data, value = data + value, struct.pack(order + "I", len(data))
        entry = struct.pack(order + "HHI", tag, kind, length) + value
        entries[entry[:2]] = entry
    data += bytes(len(data) % 2)
    rows = sorted(entries.values(), key=lambda entry: struct.unpack(order + "H", entry[:2]))
    directory = struct.pack(order + "H", len(rows)) + b"".join(rows) + bytes(4)
    return data[:4] + struct.pack(order + "I", len(data)) + data[8:] + directory
