"""Files that are small, have few pixels, and yet take minutes to decode."""

from __future__ import annotations

import re

MOST_SCANS = 64
"""Of a progressive JPEG; encoders write some ten, and each costs a pass over all pixels."""
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
"""Of a JPEG; among coded pixels 00 and D0 to D7 belong to them."""
_ALONE, _SCAN, _END = (0x01, 0xD8), 0xDA, 0xD9


def costly(data: bytes) -> str | None:
    """Why a file would take too long to decode, if it would."""
    if data[:2] in (b"P1", b"P2", b"P3"):  # read in Python, comments byte by byte
        return "is written in plain text (P1, P2 or P3); save it as binary PNM (P4, P5 or P6), or as PNG"
    if data.startswith(b"\xff\xd8") and _scans(data) > MOST_SCANS:
        return f"is a JPEG in more than {MOST_SCANS} scans; save it anew"
    return None


def _scans(data: bytes) -> int:
    """How often a JPEG's first picture is gone over; counted to just beyond MOST_SCANS."""
    count, at = 0, 0
    while count <= MOST_SCANS and (found := _MARKER.search(data, at)):
        marker, at = found[1][0], found.end()
        if marker == _END:
            break
        count += marker == _SCAN
        if marker not in _ALONE:
            at += int.from_bytes(data[at : at + 2], "big")
    return count
