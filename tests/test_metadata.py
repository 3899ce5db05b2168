"""EXIF, XMP and resolution: kept where the output's format holds them, never at the cost of the pixels."""

from __future__ import annotations

import io
import re
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image

from lightningdrag.photo import encode_photo, open_photo

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
BASE, IFD = ExifTags.Base, ExifTags.IFD


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def camera_file(kind: str = "JPEG", note_bytes: int = 10) -> bytes:
    """60x40 pixels, to be turned by a quarter, with all that a camera writes."""
    exif = Image.Exif()
    exif[BASE.Make], exif[BASE.Orientation] = "Maker", 6
    exif[IFD.Exif] = {
        BASE.ExifImageWidth: 60,
        BASE.ExifImageHeight: 40,
        BASE.MakerNote: bytes(note_bytes),
        IFD.Interop: {1: "R03"},
    }
    exif[IFD.GPSInfo] = {1: "N", 2: (46.0, 30.0, 0.0)}
    return file_of(Image.fromarray(PIXELS), kind, exif=exif.tobytes(), xmp=XMP % 6, dpi=(300, 300))


def planar_tiff() -> bytes:
    """PIXELS plane by plane, which Pillow reads and does not write."""
    height, width, _ = PIXELS.shape
    plane, directory = height * width, 8 + 3 * height * width
    extra = directory + 2 + 9 * 12 + 4  # bits, offsets and lengths do not fit into their entries
    entries = [
        (BASE.ImageWidth, 3, 1, width),
        (BASE.ImageLength, 3, 1, height),
        (BASE.BitsPerSample, 3, 3, extra),
        (BASE.PhotometricInterpretation, 3, 1, 2),
        (BASE.StripOffsets, 4, 3, extra + 6),
        (BASE.SamplesPerPixel, 3, 1, 3),
        (BASE.RowsPerStrip, 3, 1, height),
        (BASE.StripByteCounts, 4, 3, extra + 18),
        (BASE.PlanarConfiguration, 3, 1, 2),
    ]
    return b"".join(
        (
            struct.pack("<2sHI", b"II", 42, directory),
            PIXELS.transpose(2, 0, 1).tobytes(),
            struct.pack("<H", len(entries)),
            *(struct.pack("<HHII", *entry) for entry in entries),
            struct.pack("<I3H6I", 0, 8, 8, 8, *(8 + plane * i for i in range(3)), *[plane] * 3),
        )
    )


def tiff_of(mode: str) -> bytes:
    return file_of(Image.fromarray(PIXELS).convert(mode), "TIFF")


TIFFS = {mode: tiff_of(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")}
TIFFS["planar"] = planar_tiff()


@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
@pytest.mark.parametrize("stored", TIFFS)
def test_the_way_a_tiff_stores_its_pixels_is_not_taken_for_metadata(stored: str, kind: str) -> None:
    photo = open_photo(TIFFS[stored])
    again = open_photo(encode_photo(photo, kind)[0])
    assert np.array_equal(again.pixels, photo.pixels)
    assert (photo.alpha is None) == (again.alpha is None)
    assert stored != "planar" or np.array_equal(photo.pixels, PIXELS)


@pytest.mark.parametrize(
    ("kind", "bits"), [("JPEG", 8), ("PNG", 8), ("TIFF", 8), ("WEBP", 8), ("PNG", 16), ("TIFF", 16)]
)
def test_what_a_camera_wrote_is_kept_and_fits_the_upright_photo(kind: str, bits: int) -> None:
    photo = open_photo(camera_file())
    assert (photo.width, photo.height) == (40, 60)
    if bits == 16:
        photo = replace(photo, pixels=photo.pixels.astype(np.uint16) * 257)
    data, notes = encode_photo(photo, kind)
    assert kind not in ("PNG", "TIFF") or np.array_equal(open_photo(data).pixels, photo.pixels)
    assert notes == []
    image = Image.open(io.BytesIO(data))
    exif = image.getexif()
    details = exif.get_ifd(IFD.Exif)
    assert exif[BASE.Make] == "Maker"
    assert exif[BASE.Orientation] == 1  # as the XMP says; EXIF names none
    assert (details[BASE.ExifImageWidth], details[BASE.ExifImageHeight]) == (40, 60)
    assert details[BASE.MakerNote] == bytes(10)
    assert exif.get_ifd(IFD.Interop) == {1: "R03"}
    assert exif.get_ifd(IFD.GPSInfo)[1] == "N"
    assert image.info["xmp"] == XMP % 1
    assert kind == "WEBP" or image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_what_a_jpeg_has_no_room_for_is_left_out_and_said() -> None:
    photo = replace(open_photo(camera_file("WEBP", note_bytes=70_000)), xmp=bytes(70_000))
    data, notes = encode_photo(photo, "JPEG")
    assert re.fullmatch(r"JPEG holds 65,533 bytes of EXIF; 70,\d{3} were left out", notes[0])
    assert notes[1:] == ["JPEG holds 65,504 bytes of XMP; 70,000 were left out"]
    assert not {"exif", "xmp"} & set(Image.open(io.BytesIO(data)).info)
    assert encode_photo(photo, "WEBP")[1] == []


def test_a_photoshop_block_of_a_tiff_does_not_keep_it_from_becoming_a_jpeg() -> None:
    data = file_of(Image.fromarray(PIXELS), "TIFF", tiffinfo={34377: bytes(100_000), BASE.Artist: "Somebody"})
    written, notes = encode_photo(open_photo(data), "JPEG")
    assert notes == []
    assert Image.open(io.BytesIO(written)).getexif()[BASE.Artist] == "Somebody"


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_the_resolution_of_sixteen_bits_is_kept(kind: str) -> None:
    photo = replace(open_photo(PIXELS.astype(np.uint16) * 257), dpi=(300.0, 72.5))
    again = open_photo(encode_photo(photo, kind)[0])
    assert np.array_equal(again.pixels, photo.pixels)
    assert again.dpi == pytest.approx((300, 72.5), abs=0.01)


def test_a_tiff_that_names_no_resolution_has_none() -> None:
    assert open_photo(file_of(Image.fromarray(PIXELS), "TIFF")).dpi is None


def test_bmp_says_what_it_cannot_hold() -> None:
    assert encode_photo(open_photo(camera_file()), "BMP")[1] == ["BMP holds no colour profile, EXIF or XMP"]


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 72), (float("inf"), 72), (10**9, 10**9), "300", 300])
def test_a_resolution_without_sense_is_not_kept(dpi: object) -> None:
    image = Image.fromarray(PIXELS)
    image.info["dpi"] = dpi
    assert open_photo(image).dpi is None
