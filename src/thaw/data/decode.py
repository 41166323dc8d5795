"""The one decoder: the same bytes give the same pixels wherever they are read, or a reason why not.

JPEG in grey or colour goes through OpenCV (fastest), everything else through Pillow; orientation always comes from
Pillow's reading of the metadata. Formats are told apart by content, never by the name of a file.

* EXIF orientation is applied. Colour profiles are not: numbers are taken for sRGB.
* Transparency (alpha, or one transparent colour) is composited on white.
* 16 bits a channel become 8: grey is scaled and rounded, white the highest number of `bits` bits; colour keeps its
  upper byte.
* Animated and multi-page files give their first frame.
* A JPEG much larger than it is needed is decoded at a half, a quarter or an eighth of its size, which the format allows
  at a third of the time: the same bits wherever it is needed at the same size.
* Refused: what is cut short or fails its checksum, 32-bit and float pixels, more than `max_pixels`.
"""

import io
import re
import warnings

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
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # not stuffing, restart or fill

# Pillow's own limit is one number for the whole process, and its error hides the size; ours is checked before decoding.
Image.MAX_IMAGE_PIXELS = None
MAX_PIXELS = 64_000_000
# Odd metadata is common in the wild and does not touch the pixels.
warnings.filterwarnings("ignore", module=r"PIL\.")


class BadImage(Exception):
    """A file that cannot be trusted as an image; `reason` says why, in a few words."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, side: int | None = None, bits: int = 16) -> np.ndarray:
    """The image in these bytes, upright and opaque: uint8 RGB, (H, W, 3), contiguous and writable.

    With `side` it may come smaller, the shorter side no shorter than `side` pixels: a JPEG then has the largest of a
    half, a quarter and an eighth of its size that is enough. `bits` is how many the values of 16-bit grey use. Raises
    BadImage. An image of more than `max_pixels` is refused from its header.
    """
    try:
        image = _open(data)
        if image.width * image.height > max_pixels:
            millions = image.width * image.height / 1e6
            raise BadImage(f"{millions:.4g} Mpx > data.max_pixels {max_pixels / 1e6:.4g} Mpx")
        plain = _is_jpeg(data) and image.mode in ("L", "RGB")
        pixels = _jpeg(data, image, side) if plain else _other(data, image, bits)
        return np.ascontiguousarray(TURNS.get(_orientation(image), np.asarray)(pixels))
    except (BadImage, MemoryError):  # too little memory is no fault of the image
        raise
    except Exception as error:  # on broken files the libraries raise whatever their parsers stumbled over
        raise BadImage(_line(error)) from error


def size_of(data: bytes) -> tuple[int, int]:
    """Height and width, upright, of an image that decodes, whatever size it was decoded at."""
    image = _open(data)
    turned = _orientation(image) in (5, 6, 7, 8) and image.format != "TIFF"  # which Pillow has turned already
    return image.size if turned else image.size[::-1]


def has_frames(data: bytes) -> bool:
    """Whether an image that decodes has more frames or pages than the one `decode` gives."""
    if _is_jpeg(data):  # phones store a preview or a depth map as a second image
        return False
    try:
        return bool(getattr(_open(data), "is_animated", False))
    except Exception:  # the frames after the first are broken, which does not matter
        return True


def peak_of_grey16(data: bytes) -> int:
    """The highest value of an image that decodes and is 16-bit grey; 0 of any other."""
    image = _open(data)
    return int(np.asarray(image).max()) if _is_grey16(image) else 0


def _open(data: bytes) -> Image.Image:
    """The header of an image; nothing is decoded yet."""
    if not data:
        raise BadImage("empty file")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise BadImage(f"broken, or not an image of a kind that is read here (starts with {data[:8]!r})") from None


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
    """Whether a JPEG reaches its end marker, walked from marker to marker: previews inside have an end of their own."""
    at = 2
    while marker := MARKER.search(data, at):
        at, code = marker.end(), data[marker.end() - 1]
        if code == 0xD9:
            return True
        if code not in (0x01, 0xD8):  # these two have no length
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
        raise BadImage(f"{kind} pixels, of which nothing says what is white: save it with 8 or 16 bits a channel")
    if image.format == "PNG" and image.mode == "RGB" and "transparency" in image.info and data[24] == 16:
        raise BadImage("16-bit colour with one transparent colour")  # Pillow compares it with 8 bits
    if image.format == "PNG" and image.mode in ("1", "L") and "transparency" in image.info and data[24] < 8:
        raise BadImage(f"{data[24]}-bit grey with one transparent grey")  # Pillow scales the pixels alone
    image.load()
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _is_grey16(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.format, image.mode) == ("PPM", "I")  # scaled to 65535 as it is read


def _grey16(image: Image.Image, bits: int) -> np.ndarray:
    """(H, W, 3): Pillow's own conversion to RGB clips instead of scaling."""
    if image.format == "TIFF" and image.tag_v2.get(262) == 0:
        raise BadImage("16-bit grey stored as a negative")  # Pillow ignores it in 16 bits
    values, white = np.asarray(image).astype(np.uint32), (1 << bits) - 1
    grey = ((np.minimum(values, white) * 255 + white // 2) // white).astype(np.uint8)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return cv2.merge([grey, grey, grey])


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # broken metadata around sound pixels
        return None


def _line(error: Exception) -> str:
    return " ".join(f"{error}".split())[:120] or type(error).__name__
