"""The decoder: which bytes are images, which pixels they give, and why others are refused."""

import io
import struct
import time
import zlib
from contextlib import suppress

import cv2
import numpy as np
import pytest
from PIL import Image

from thaw.data.decode import BadImage, decode, has_frames, peak_of_grey16, size_of

COARSE = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
PIXELS = cv2.resize(COARSE, (80, 60), interpolation=cv2.INTER_CUBIC)  # not square, no symmetry
IMAGE = Image.fromarray(PIXELS)
LOSSLESS = ("PNG", "TIFF", "BMP", "PPM", "JPEG2000")
UNTURN = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that each orientation undoes


def encode(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def refused(data, **options):
    with pytest.raises(BadImage) as caught:
        decode(data, **options)
    assert caught.value.reason and "\n" not in caught.value.reason
    return caught.value.reason


def difference(a, b):
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    return np.abs(a.astype(int) - b).mean()


def png(width, height, *, depth=8, kind=0, data=b"", extra=b""):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("format", LOSSLESS)
def test_lossless_formats_give_the_pixels_back(format):
    pixels = decode(encode(IMAGE, format))
    assert np.array_equal(pixels, PIXELS) and pixels.flags.c_contiguous and pixels.flags.writeable


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "GIF", "HEIF"])
def test_lossy_formats_come_close(format):
    assert difference(decode(encode(IMAGE, format)), PIXELS) < 10


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_jpeg_is_as_pillow_sees_it(options):
    data = encode(IMAGE, "JPEG", **options)
    assert difference(decode(data), np.asarray(Image.open(io.BytesIO(data)))) < 1


def test_grey_jpeg_has_three_equal_channels():
    pixels = decode(encode(IMAGE.convert("L"), "JPEG"))
    assert pixels.shape == (60, 80, 3) and np.ptp(pixels, axis=2).max() == 0


@pytest.mark.parametrize("ink", ["CMYK", "YCbCr"])
def test_other_colours_of_jpeg(ink):
    data = encode(IMAGE.convert(ink), "JPEG", quality=95)
    assert difference(decode(data), PIXELS) < 5
    assert np.array_equal(decode(data), decode(data))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_upright(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = IMAGE.transpose(Image.Transpose(UNTURN[orientation])) if orientation > 1 else IMAGE
    exact = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}
    exact["HEIF"] = {"quality": -1, "chroma": 444}
    pixels = decode(encode(turned, format, exif=exif.tobytes(), **exact.get(format, {})))
    assert difference(pixels, PIXELS) < 3 and pixels.flags.c_contiguous


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("side", "height"), [(None, 120), (61, 120), (60, 60), (31, 60), (30, 30), (15, 15), (1, 15)])
def test_a_jpeg_is_decoded_no_larger_than_it_has_to_be(side, height, orientation):
    """The size is the smallest of full, 1/2, 1/4 and 1/8 that is long enough, and the pixels are as if shrunk."""
    large = Image.fromarray(cv2.resize(COARSE, (160, 120), interpolation=cv2.INTER_CUBIC))
    turned = large.transpose(Image.Transpose(UNTURN[orientation])) if orientation > 1 else large
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(turned, "JPEG", exif=exif, quality=95, subsampling=0)
    pixels = decode(data, side=side)
    shrunk = cv2.resize(np.asarray(large), (height * 4 // 3, height), interpolation=cv2.INTER_AREA)
    assert difference(pixels, shrunk) < 4 and pixels.flags.c_contiguous
    assert size_of(data) == (120, 160)
    assert decode(encode(large, "PNG"), side=side).shape == (120, 160, 3)


def test_an_odd_jpeg_is_decoded_to_whole_pixels():
    data = encode(IMAGE.resize((163, 121)), "JPEG")
    assert [decode(data, side=side).shape for side in (60, 30, 15)] == [(61, 82, 3), (31, 41, 3), (16, 21, 3)]
    assert decode(data, side=61).shape == (121, 163, 3)  # half of it is 60 and a bit


def test_a_broken_file_is_refused_at_any_size():
    data = encode(Image.fromarray(PIXELS.repeat(8, 0).repeat(8, 1)), "JPEG")
    for cut in (20, len(data) // 2, len(data) - 200):
        assert refused(data[:-cut], side=8) == refused(data[:-cut])


def test_broken_exif_does_not_matter():
    data = encode(IMAGE, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12\xff\xff\xff\xff")
    assert difference(decode(data), PIXELS) < 10


def test_sixteen_bit_grey_is_scaled():
    grey = np.full((40, 50), 110 * 257, np.uint16)
    grey[0, :3] = 0, 65535, 128  # the last is nearest to 0
    for suffix in (".png", ".tiff"):
        pixels = decode(cv2.imencode(suffix, grey)[1].tobytes())
        assert abs(pixels.mean() - 110) < 1 and pixels[0, :3, 0].tolist() == [0, 255, 0]


def test_sixteen_bit_colour_is_scaled():
    deep = cv2.cvtColor(PIXELS, cv2.COLOR_RGB2BGR).astype(np.uint16) * 257
    for suffix in (".png", ".tiff"):
        assert np.array_equal(decode(cv2.imencode(suffix, deep)[1].tobytes()), PIXELS)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_transparency_is_white(mode, format):
    image = Image.new(mode, (8, 8), (10, 10, 10, 0) if mode == "RGBA" else (10, 0))
    image.paste((10, 10, 10, 128) if mode == "RGBA" else (10, 128), (0, 0, 8, 4))
    pixels = decode(encode(image, format, **({"lossless": True} if format == "WEBP" else {})))
    assert pixels[4:].min() == 255 and abs(pixels[:4].mean() - 132) < 1


def test_transparent_colours_are_white():
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    palette.putpixel((0, 0), 0)
    for data in (encode(palette, "PNG", transparency=0), encode(palette, "GIF", transparency=0)):
        assert decode(data)[0, :2].tolist() == [[255, 255, 255], [200, 0, 0]]
    for mode, colour in (("L", 7), ("RGB", (7, 7, 7))):
        image = Image.new(mode, (4, 4), 0)
        image.putpixel((0, 0), colour)
        assert decode(encode(image, "PNG", transparency=colour))[0, :2, 0].tolist() == [255, 0]
    trns = struct.pack(">I", 2) + b"tRNS" + b"\x01\x01" + struct.pack(">I", zlib.crc32(b"tRNS\x01\x01"))
    deep = png(2, 1, depth=16, data=b"\0\x01\x01\x01\x02", extra=trns)
    assert decode(deep)[0, :, 0].tolist() == [255, 1]


@pytest.mark.parametrize("format", ["GIF", "PNG", "TIFF", "WEBP"])
def test_the_first_frame_is_used_and_the_others_are_noticed(format):
    first = encode(IMAGE, format)
    data = encode(IMAGE, format, save_all=True, append_images=[IMAGE.rotate(180)])
    assert difference(decode(data), decode(first)) < 10
    assert has_frames(data) and not has_frames(first)


def test_a_phone_image_with_a_second_one_inside_is_one_image():
    data = encode(IMAGE, "MPO", save_all=True, append_images=[IMAGE.rotate(180)])
    assert np.array_equal(decode(data), decode(encode(IMAGE, "JPEG"))) and not has_frames(data)


def deep(suffix, values):
    return cv2.imencode(suffix, np.asarray(values))[1].tobytes()


BECOMES = {  # the 8-bit value that an image of a single value gets, or why it is refused
    "16-bit PNG": (deep(".png", np.full((4, 4), 25700, np.uint16)), 100),
    "16-bit TIFF": (deep(".tiff", np.full((4, 4), 25700, np.uint16)), 100),
    "16-bit colour PNG": (deep(".png", np.full((4, 4, 3), 25700, np.uint16)), 100),
    "16-bit colour TIFF": (deep(".tiff", np.full((4, 4, 3), 25700, np.uint16)), 100),
    "float TIFF": (encode(Image.new("F", (4, 4), 0.4), "TIFF"), "float pixels, which define no white"),
    "float colour TIFF": (deep(".tiff", np.full((4, 4, 3), 0.4, np.float32)), ""),
    "32-bit TIFF": (encode(Image.new("I", (4, 4), 100), "TIFF"), "32-bit or signed pixels"),
    "1 bit": (encode(Image.new("1", (4, 4), 1), "PNG"), 255),
    "1-bit TIFF": (encode(Image.new("1", (4, 4), 1), "TIFF"), 255),
    "palette": (encode(Image.new("RGB", (4, 4), (100, 100, 100)).convert("P"), "PNG"), 102),  # the palette's nearest
    "CMYK": (encode(Image.new("CMYK", (4, 4), (0, 0, 0, 155)), "TIFF"), 100),
    "grey and alpha": (encode(Image.new("LA", (4, 4), (0, 155)), "PNG"), 100),
}


@pytest.mark.parametrize("kind", BECOMES)
def test_how_other_kinds_of_pixels_are_decoded(kind):
    data, value = BECOMES[kind]
    if isinstance(value, str):
        assert value in refused(data)
    else:
        assert decode(data).ravel().tolist() == [value] * 48


@pytest.mark.parametrize("bits", [1, 10, 12, 15, 16])
def test_sixteen_bit_grey_is_scaled_by_the_bits_in_use(bits):
    white = 2**bits - 1
    data = deep(".png", np.array([[0, white // 2 + 1, white]], np.uint16))
    assert decode(data, bits=bits)[0, :, 0].tolist() == [0, round(255 * (white // 2 + 1) / white), 255]
    assert peak_of_grey16(data) == white and peak_of_grey16(encode(IMAGE, "PNG")) == 0
    assert decode(deep(".tiff", np.full((1, 1), 65535, np.uint16)), bits=bits).max() == 255, "larger values are white"


def test_negative_sixteen_bit_tiff_is_refused():
    image = Image.fromarray(np.full((4, 4), 1000, np.uint16))
    assert "negative" in refused(encode(image, "TIFF", tiffinfo={262: 0}))


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG", "HEIF", "JPEG2000"])
def test_bombs_are_refused_from_the_header(format):
    data = encode(Image.new("RGB", (1200, 900)), format)
    header = data if format in ("GIF", "TIFF", "WEBP") else data[:1000]  # Pillow needs the whole file for these
    assert refused(header, max_pixels=1_000_000) == "1.08 Mpx > data.max_pixels 1 Mpx"


def test_a_bomb_beyond_pillows_own_limit():
    began = time.perf_counter()
    assert refused(png(14_250, 14_250)) == "203.1 Mpx > data.max_pixels 64 Mpx"
    assert "data.max_pixels" in refused(png(2**31 - 1, 2**31 - 1))
    assert time.perf_counter() - began < 0.1
    assert decode(png(14_250, 1, data=bytes(14_251))).shape == (1, 14_250, 3)
    assert "> data.max_pixels 0.0047 Mpx" in refused(encode(IMAGE, "JPEG"), max_pixels=4_700)


@pytest.mark.parametrize("ink", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_truncated_jpeg_is_refused(ink, progressive):
    preview = encode(IMAGE.resize((16, 12)), "JPEG")  # it has an end marker of its own
    data = encode(IMAGE.convert(ink), "JPEG", progressive=progressive, comment=preview)
    assert decode(data).shape == (60, 80, 3)
    for left in [1, 2, 3, 20, *range(21, len(data) - 2, 97)]:
        refused(data[:-left])
    assert "truncated" in refused(data[:-20])


def test_bytes_after_the_end_of_a_jpeg_do_not_matter():
    data = encode(IMAGE, "JPEG")
    assert np.array_equal(decode(data + bytes(99) + b"\xff\xda\xff\xd8"), decode(data))


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "PPM", "HEIF", "JPEG2000"])
def test_other_truncated_files_are_refused(format):
    data = encode(IMAGE, format)
    for left in [5, 20, *range(21, len(data), max(1, len(data) // 40))]:
        refused(data[:-left])


def test_png_with_any_flipped_byte_of_an_image_is_refused():
    data = bytearray(encode(IMAGE, "PNG"))
    for i in [*range(0, 60), *range(60, len(data) - 12, 211)]:
        data[i] ^= 0x10
        refused(bytes(data))
        data[i] ^= 0x10
    decode(bytes(data))


def test_flipped_bytes_of_a_jpeg_never_give_anything_but_pixels_or_a_reason():
    data = bytearray(encode(IMAGE, "JPEG"))
    for i in range(0, len(data), 7):
        data[i] ^= 0xFF
        with suppress(BadImage):
            assert decode(bytes(data)).dtype == np.uint8
        data[i] ^= 0xFF


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<!DOCTYPE html><html></html>", "not an image but an HTML page"),
        (b"\n  <HTML>", "not an image but an HTML page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image but an SVG drawing"),
        (b"%PDF-1.7\n%\xe2\xe3", "not an image but a PDF file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image but a PostScript file"),
        (b"PK\x03\x04\x14\0", "not an image but a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "not an image but a Git LFS pointer; fetch the"),
        (b"404: Not Found", "not an image but text"),
        (b"a\tb\r\n1\t2\r\n", "not an image but text"),
        (b"\xff\xd8", "broken, or in an unknown format (first bytes ff d8)"),
        (b"\x00\x01\x02\x03abcdefg", "broken, or in an unknown format (first bytes 00 01 02 03 61 62 63 64)"),
    ],
)
def test_a_file_that_is_not_an_image_is_described(data, reason):
    assert refused(data).startswith(reason)


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1)])
def test_thin_images_are_images(size):
    for format in ("PNG", "JPEG"):
        assert decode(encode(Image.new("RGB", size), format)).shape == (size[1], size[0], 3)


def test_a_pgm_of_16_bits_is_scaled_to_8():
    for most in (65535, 4095):
        values = (np.arange(16).reshape(4, 4) * (most // 15)).astype(">u2")
        found = decode(b"P5\n4 4\n%d\n" % most + values.tobytes())
        assert found[..., 0].ravel().tolist() == [17 * i for i in range(16)]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_transparent_grey_of_few_bits_is_refused(depth):
    rows = b"".join(b"\0" + bytes(range(depth)) for _ in range(8))  # 8 pixels per row
    transparent = struct.pack(">I", 2) + b"tRNS" + b"\0\1" + struct.pack(">I", zlib.crc32(b"tRNS\0\1"))
    assert decode(png(8, 8, depth=depth, data=rows)).shape == (8, 8, 3)
    assert f"{depth}-bit grey" in refused(png(8, 8, depth=depth, data=rows, extra=transparent))


def test_a_rotated_tiff_has_the_size_of_its_pixels():
    exif = Image.Exif()
    exif[274] = 6
    for format in ("TIFF", "JPEG", "PNG"):
        data = encode(IMAGE, format, exif=exif)
        assert size_of(data) == decode(data).shape[:2] == (80, 60)
