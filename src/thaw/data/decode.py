"""The only image decoder: the same bytes give the same pixels everywhere, or a reason why they cannot be used.

OpenCV decodes grey and colour JPEGs (fastest), Pillow everything else; the orientation always comes from Pillow's
reading of the metadata. The format is recognised by content, never by file name.

* EXIF orientation is applied. Colour profiles are not: values are taken as sRGB.
* Transparency (alpha, or one transparent colour) is composited on white.
* 16 bits per channel become 8: grey is scaled and rounded, with the largest value of `bits` bits as white; colour keeps
  its upper byte.
* Animated and multi-page files give their first frame.
* A JPEG much larger than needed is decoded at a half, a quarter or an eighth of its size, which takes a third of the
  time. The size needed alone decides, so the pixels are the same everywhere.
* Refused: truncated files, wrong checksums, 32-bit and float pixels, more than `max_pixels` pixels.
"""

import io
import re
import warnings
from contextlib import suppress

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from pillow_heif import register_heif_opener

register_heif_opener()
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "HEIF", "JPEG2000", "PPM")
EIGHT_BIT = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
ORIENTATION = 0x0112
TURNS = {
    2: lambda x: cv2.flip(x, 1),
    3: lambda x: cv2.rotate(x, cv2.ROTATE_180),
    4: lambda x: cv2.flip(x, 0),
    5: cv2.transpose,
    6: lambda x: cv2.rotate(x, cv2.ROTATE_90_CLOCKWISE),
    7: lambda x: cv2.rotate(cv2.transpose(x), cv2.ROTATE_180),
    8: lambda x: cv2.rotate(x, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
REDUCED = {2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 8: cv2.IMREAD_REDUCED_GRAYSCALE_8}
NO_IMAGES = {  # how other files begin, in lower case
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
    b"<svg": "an SVG drawing",
    b"<?xml": "XML or an SVG drawing",
    b"%pdf": "a PDF file",
    b"%!ps": "a PostScript file",
    b"pk\x03\x04": "a zip archive",
    b"version https://git-lfs": "a Git LFS pointer; fetch the files with git lfs pull",
}
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # no stuffing, restart or fill

# Pillow's limit is global, and its error does not name the size. Ours is checked before decoding.
Image.MAX_IMAGE_PIXELS = None
MAX_PIXELS = 64_000_000
# Odd metadata is common and does not affect the pixels.
warnings.filterwarnings("ignore", module=r"PIL\.")


class BadImage(Exception):
    """A file that cannot be used as an image; `reason` says why, in a few words."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, side: int | None = None, bits: int = 16) -> np.ndarray:
    """Decode an image, upright and opaque: uint8 RGB, (H, W, 3), contiguous and writable.

    With `side`, a JPEG is decoded at the smallest of its full, 1/2, 1/4 and 1/8 size whose shorter side still has
    `side` pixels. `bits` is the bit depth of 16-bit grey values. Raise BadImage if the image cannot be used; more than
    `max_pixels` pixels are refused from the header.
    """
    try:
        image = _open(data)
        if image.width * image.height > max_pixels:
            millions = image.width * image.height / 1e6
            raise BadImage(f"{millions:.4g} Mpx > data.max_pixels {max_pixels / 1e6:.4g} Mpx")
        plain = _is_jpeg(data) and image.mode in ("L", "RGB")
        pixels = _jpeg(data, image, side) if plain else _other(data, image, bits)
        return np.ascontiguousarray(TURNS.get(_orientation(image), np.asarray)(pixels))
    except (BadImage, MemoryError):  # the image is not to blame for too little memory
        raise
    except Exception as error:  # on broken files the libraries raise exceptions of all types
        raise BadImage(_line(error)) from error


def size_of(data: bytes) -> tuple[int, int]:
    """Return the upright height and width of an image that decodes, at its full size."""
    image = _open(data)
    turned = _orientation(image) in (5, 6, 7, 8) and image.format != "TIFF"  # Pillow has already turned a TIFF
    return image.size if turned else image.size[::-1]


def has_frames(data: bytes) -> bool:
    """Return whether an image that decodes has more frames or pages than the one `decode` returns."""
    if _is_jpeg(data):  # phones store a preview or a depth map as a second image
        return False
    try:
        return bool(getattr(_open(data), "is_animated", False))
    except Exception:  # the frames after the first are broken, which does not matter
        return True


def peak_of_grey16(data: bytes) -> int:
    """Return the highest value of a 16-bit grey image that decodes, 0 for any other."""
    image = _open(data)
    return int(np.asarray(image).max()) if _is_grey16(image) else 0


def _open(data: bytes) -> Image.Image:
    """Read the header of an image; nothing is decoded yet."""
    if not data:
        raise BadImage("empty file")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise BadImage(_what_else(data)) from None


def _what_else(data: bytes) -> str:
    """Say what a file is that Pillow does not recognise as an image."""
    start = data[:512].lstrip().lower()
    for known, name in NO_IMAGES.items():
        if start.startswith(known):
            return f"not an image but {name}"
    with suppress(UnicodeDecodeError):
        if all(letter.isprintable() or letter.isspace() for letter in data[:512].decode("ascii")):
            return "not an image but text"
    return f"broken, or in an unknown format (first bytes {data[:8].hex(' ')})"


def _is_jpeg(data: bytes) -> bool:
    return data[:2] == b"\xff\xd8"


def _jpeg(data: bytes, image: Image.Image, side: int | None) -> np.ndarray:
    if not _ends(data):  # OpenCV would fill the rest with grey
        raise BadImage("truncated: JPEG without end marker")
    n = next((n for n in (8, 4, 2) if side and min(image.size) // n >= side), 1)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | REDUCED.get(n, 0)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None or pixels.shape != (-(-image.height // n), -(-image.width // n), 3):
        raise BadImage("broken JPEG data")
    return pixels


def _ends(data: bytes) -> bool:
    """Return whether a JPEG reaches its end marker.

    Walk from marker to marker, since previews inside the file have end markers of their own.
    """
    at = 2
    while marker := MARKER.search(data, at):
        at, code = marker.end(), data[marker.end() - 1]
        if code == 0xD9:
            return True
        if code not in (0x01, 0xD8):  # these two markers have no length
            at += int.from_bytes(data[at : at + 2], "big")
    return False


def _other(data: bytes, image: Image.Image, bits: int) -> np.ndarray:
    if image.format == "PNG":
        _open(data).verify()  # loading skips the checksums
    elif _is_jpeg(data) and not _ends(data):
        raise BadImage("truncated: JPEG without end marker")
    if _is_grey16(image):
        return _grey16(image, bits)
    if image.mode not in EIGHT_BIT:
        kind = {"I": "32-bit or signed", "F": "float"}.get(image.mode, f"mode {image.mode}")
        raise BadImage(f"{kind} pixels, which define no white: save it with 8 or 16 bits per channel")
    if image.format == "PNG" and image.mode == "RGB" and "transparency" in image.info and data[24] == 16:
        raise BadImage("16-bit colour with one transparent colour is not supported")  # Pillow compares it at 8 bits
    if image.format == "PNG" and image.mode in ("1", "L") and "transparency" in image.info and data[24] < 8:
        raise BadImage(f"{data[24]}-bit grey with one transparent grey is not supported")  # Pillow leaves it unscaled
    image.load()
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _is_grey16(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.format, image.mode) == ("PPM", "I")  # Pillow scales a PPM to 65535


def _grey16(image: Image.Image, bits: int) -> np.ndarray:
    """Return 16-bit grey as 8-bit RGB (H, W, 3), scaled; Pillow's own conversion clips instead."""
    if image.format == "TIFF" and image.tag_v2.get(262) == 0:
        raise BadImage("16-bit grey stored as a negative is not supported")  # Pillow ignores the tag at 16 bits
    values, white = np.asarray(image).astype(np.uint32), (1 << bits) - 1
    grey = ((np.minimum(values, white) * 255 + white // 2) // white).astype(np.uint8)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return cv2.merge([grey, grey, grey])


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # broken metadata does not affect the pixels
        return None


def _line(error: Exception) -> str:
    return " ".join(f"{error}".split())[:120] or type(error).__name__
