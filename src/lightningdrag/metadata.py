"""What a photo carries besides pixels and colours: EXIF, XMP and resolution, as read and as written.

The EXIF of a TIFF is the file's own directory, which also says how *its* pixels are stored; in another
file those tags would make the pixels unreadable.  So only tags about the photo are kept.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from PIL import ExifTags, Image, PngImagePlugin

if TYPE_CHECKING:
    from lightningdrag.photo import Photo

KEPT_TAGS = tuple(
    ExifTags.Base[name]
    for name in (
        *("ImageDescription", "Make", "Model", "Software", "HostComputer", "DateTime", "Artist", "Copyright"),
        *("XResolution", "YResolution", "ResolutionUnit", "Rating", "RatingPercent"),
        *("XPTitle", "XPComment", "XPAuthor", "XPKeywords", "XPSubject"),
    )
)
"""Of the base directory; those of the Exif and GPS directories are all kept."""
_XMP_TAG = 700  # of TIFF
_JPEG_EXIF_BYTES = 65533  # one segment, less its length
_JPEG_XMP_BYTES = 65533 - len(b"http://ns.adobe.com/xap/1.0/\0")


def read_exif(exif: Image.Exif, width: int, height: int, warnings: list[str]) -> bytes | None:
    """EXIF of a photo that is upright now, with this width and height: without orientation.

    Damaged EXIF is left out, with a warning.
    """
    try:
        kept = Image.Exif()
        kept.endian = exif.endian  # makers' notes have their camera's
        for tag in KEPT_TAGS:
            if tag in exif:
                kept[tag] = exif[tag]
        if gps := exif.get_ifd(ExifTags.IFD.GPSInfo):
            kept[ExifTags.IFD.GPSInfo] = dict(gps)
        if details := _details(exif):
            if ExifTags.Base.ExifImageWidth in details:
                details |= {ExifTags.Base.ExifImageWidth: width, ExifTags.Base.ExifImageHeight: height}
            kept[ExifTags.IFD.Exif] = details
        return kept.tobytes() if len(kept) else None
    except Exception as error:  # damaged tags raise anything
        warnings.append(f"EXIF could not be kept: {error}")
        return None


def _details(exif: Image.Exif) -> dict[int, Any]:
    """The Exif directory, with the one inside it in place of where that was."""
    details = dict(exif.get_ifd(ExifTags.IFD.Exif))
    if ExifTags.IFD.Interop in details:
        details[ExifTags.IFD.Interop] = exif.get_ifd(ExifTags.IFD.Interop)
    return details


def read_xmp(image: Image.Image) -> bytes | None:
    """XMP of a photo that is upright now."""
    xmp = image.info.get("xmp")
    if not isinstance(xmp, bytes):
        return None
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp) or None


def read_dpi(image: Image.Image) -> tuple[float, float] | None:
    """Pixels an inch, (x, y), within what every format can write; None if the file says nothing sensible."""
    try:
        x, y = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    # 1 is Pillow's word for a TIFF that names none.
    return (x, y) if all(math.isfinite(value) and 1 < value <= 65535 for value in (x, y)) else None


def save_options(photo: Photo, kind: str) -> tuple[dict[str, Any], list[str]]:
    """What Pillow is to write beside the pixels of a photo of 8 bits, and what the format cannot hold."""
    if kind == "BMP":
        lost = bool(photo.icc_profile or photo.exif or photo.xmp)
        notes = ["BMP holds no colour profile, EXIF or XMP"] if lost else []
        return ({"dpi": photo.dpi} if photo.dpi else {}), notes
    exif, xmp, notes = photo.exif, photo.xmp, []
    if kind == "JPEG" and exif and len(exif) > _JPEG_EXIF_BYTES:
        notes.append(f"JPEG holds {_JPEG_EXIF_BYTES:,} bytes of EXIF; {len(exif):,} were left out")
        exif = None
    if kind == "JPEG" and xmp and len(xmp) > _JPEG_XMP_BYTES:
        notes.append(f"JPEG holds {_JPEG_XMP_BYTES:,} bytes of XMP; {len(xmp):,} were left out")
        xmp = None
    options: dict[str, Any] = {"exif": exif, "icc_profile": photo.icc_profile}
    if kind in ("PNG", "JPEG", "TIFF"):
        options["dpi"] = photo.dpi
    if kind == "PNG":
        options["pnginfo"] = _png_text(xmp)
    elif kind == "TIFF":
        options["exif"] = tiff_tags(exif, xmp)
    else:
        options["xmp"] = xmp
    return {name: value for name, value in options.items() if value}, notes


def _png_text(xmp: bytes | None) -> PngImagePlugin.PngInfo | None:
    if xmp is None:
        return None
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    return text


def tiff_tags(exif: bytes | None, xmp: bytes | None) -> Image.Exif:
    """What the directory of a TIFF is to hold of both."""
    tags = Image.Exif()
    tags.load(exif or b"")
    tags.get_ifd(ExifTags.IFD.Exif).update(_details(tags))
    if xmp:
        tags[_XMP_TAG] = xmp
    return tags
