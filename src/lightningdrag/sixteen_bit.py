"""Colour files of 16 bits a channel, which Pillow reduces to 8: PNG and TIFF through OpenCV.

OpenCV writes no colour profile, so it is put into the finished file: as a chunk of a PNG, as a tag of a
TIFF (PNG 1.2 section 4.2.2.4, TIFF 6.0 section 2 and ICC.1 annex B).
"""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

_PNG = b"\x89PNG\r\n\x1a\n"
_BITS_PER_SAMPLE = 258
_ICC_PROFILE = 34675
_UNDEFINED = 7


def bits_per_sample(image: Image.Image, data: bytes) -> int:
    """Bits a channel of a file that Pillow has opened; 8 for all but PNG and TIFF."""
    if image.format == "PNG" and len(data) > 24:
        return data[24]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (8,))
        return max(bits) if isinstance(bits, tuple) else int(bits)
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


def encode_16bit(pixels: np.ndarray, alpha: np.ndarray | None, kind: str, icc_profile: bytes | None) -> bytes:
    """``(H, W, 3)`` uint16 RGB as a "PNG" or "TIFF" file."""
    if alpha is None:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    else:
        pixels = cv2.cvtColor(np.dstack((pixels, alpha)), cv2.COLOR_RGBA2BGRA)
    _, encoded = cv2.imencode(".png" if kind == "PNG" else ".tif", pixels)
    data = encoded.tobytes()
    if not icc_profile:
        return data
    return _png_with_profile(data, icc_profile) if kind == "PNG" else _tiff_with_profile(data, icc_profile)


def _png_with_profile(data: bytes, profile: bytes) -> bytes:
    body = b"iCCP" + b"profile\0\0" + zlib.compress(profile)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    head = len(_PNG) + 25  # IHDR comes first and always has 25 bytes
    return data[:head] + chunk + data[head:]


def _tiff_with_profile(data: bytes, profile: bytes) -> bytes:
    """Append the profile and a new directory that names it, and point the header there."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    entries = [data[start + 2 + 12 * i :][:12] for i in range(count)]
    data += bytes(len(data) % 2)
    entries.append(struct.pack(order + "HHII", _ICC_PROFILE, _UNDEFINED, len(profile), len(data)))
    entries.sort(key=lambda entry: struct.unpack(order + "H", entry[:2]))
    data += profile + bytes(len(profile) % 2)
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return data[:4] + struct.pack(order + "I", len(data)) + data[8:] + directory
