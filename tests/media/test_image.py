"""Images are decoded within bounds and encoded again before anyone sees them."""

import io
import random
import resource
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from media.errors import ImageTooLarge, ImageUnreadable, UnsupportedImage
from media.inspection import reencode_image
from tests import audio

MAKERS = {"jpg": audio.make_jpeg, "png": audio.make_png, "webp": audio.make_webp}


def decode(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("extension", MAKERS)
def test_each_format_stays_what_it_was(extension: str) -> None:
    encoded = reencode_image(MAKERS[extension](64, 48))
    assert (encoded.extension, encoded.width, encoded.height) == (extension, 64, 48)
    image = decode(encoded.data)
    assert image.size == (64, 48)
    assert image.get_format_mimetype() == encoded.mime_type  # type: ignore[attr-defined]


def test_a_path_is_taken_as_well_as_bytes(tmp_path: Path) -> None:
    path = tmp_path / "cover.png"
    path.write_bytes(audio.make_png())
    assert reencode_image(path) == reencode_image(audio.make_png())


@pytest.mark.parametrize("extension", MAKERS)
def test_the_largest_accepted_image_is_scaled_down(extension: str) -> None:
    encoded = reencode_image(MAKERS[extension](4096, 4096))
    assert (encoded.width, encoded.height) == (1024, 1024)
    assert decode(encoded.data).size == (1024, 1024)


@pytest.mark.parametrize("extension", MAKERS)
def test_a_picture_of_noise_becomes_a_small_file(extension: str) -> None:
    """Promise 63. It is made smaller until it has half a mebibyte at most; nothing else bounds a thumbnail's bytes."""
    noise = Image.frombytes("RGB", (1024, 1024), random.Random(1).randbytes(3 * 1024**2))
    output = io.BytesIO()
    noise.save(output, format={"jpg": "JPEG"}.get(extension, extension.upper()), quality=100)
    encoded = reencode_image(output.getvalue())
    assert len(encoded.data) <= 512 * 1024
    assert 256 <= encoded.width <= 512
    assert decode(encoded.data).size == (encoded.width, encoded.height)


@pytest.mark.parametrize("extension", MAKERS)
@pytest.mark.parametrize("size", [(4097, 16), (16, 4097)])
def test_one_pixel_more_is_too_large(extension: str, size: tuple[int, int]) -> None:
    with pytest.raises(ImageTooLarge):
        reencode_image(MAKERS[extension](*size))


def test_a_bomb_of_a_hundred_million_pixels_is_refused_by_its_header() -> None:
    """Promise 44. The size is read before a pixel is: memory for the pixels is never taken."""
    with pytest.raises(ImageTooLarge):
        reencode_image(audio.make_png_bomb(10_000, 10_000))


def test_a_webp_that_claims_to_be_huge_is_refused_by_its_header() -> None:
    """Promise 44. Not even the memory for its canvas is taken, which a decoder wants as soon as it opens the file."""
    canvas = b"\0\0\0\0" + (12_000).to_bytes(3, "little") * 2
    body = b"WEBP" + b"VP8X" + struct.pack("<I", len(canvas)) + canvas
    with pytest.raises(ImageTooLarge):
        reencode_image(b"RIFF" + struct.pack("<I", len(body)) + body)


def test_a_bomb_in_the_comments_of_an_image_is_refused() -> None:
    """Promise 44. A compressed comment of a gigabyte is not unpacked."""
    text = b"comment\0\0" + zlib.compress(bytes(200_000_000), 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    png = audio.make_png()
    with pytest.raises(ImageUnreadable) as refusal:
        reencode_image(png[:33] + chunk + png[33:])
    assert "too large" in refusal.value.detail


@pytest.mark.parametrize("extension", MAKERS)
@pytest.mark.parametrize("part", [0.5, 0.95])
def test_a_truncated_image_is_unreadable(extension: str, part: float) -> None:
    data = MAKERS[extension](500, 400)
    with pytest.raises(ImageUnreadable):
        reencode_image(data[: int(len(data) * part)])


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a" + bytes(50), b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"BM" + bytes(60), b"II*\0"]
)
def test_other_images_are_not_supported(data: bytes) -> None:
    with pytest.raises(UnsupportedImage):
        reencode_image(data)


@pytest.mark.parametrize("start", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBP"])
def test_noise_behind_a_signature_is_unreadable(start: bytes) -> None:
    with pytest.raises(ImageUnreadable):
        reencode_image(start + bytes(range(256)) * 10)


def test_metadata_and_trailing_bytes_are_dropped() -> None:
    secret = "taken at 52.5200 N 13.4050 E"
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", secret)
    exif = Image.Exif()
    exif[0x010E] = secret
    image = Image.new("RGB", (40, 30), "red")
    for image_format, options in (
        ("PNG", {"pnginfo": info, "exif": exif}), ("JPEG", {"exif": exif, "comment": secret}), ("WEBP", {"exif": exif})
    ):  # fmt: skip
        file = io.BytesIO()
        image.save(file, format=image_format, **options)
        assert secret.encode() in file.getvalue()
        encoded = reencode_image(file.getvalue() + b"<script>alert(1)</script>")
        assert secret.encode() not in encoded.data
        assert b"<script>" not in encoded.data
        assert not decode(encoded.data).getexif()


def test_an_image_that_was_taken_sideways_is_turned() -> None:
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, format="JPEG", exif=exif, quality=95)
    encoded = reencode_image(file.getvalue())
    assert (encoded.width, encoded.height) == (20, 40)
    top, bottom = decode(encoded.data).getpixel((10, 5)), decode(encoded.data).getpixel((10, 35))
    assert isinstance(top, tuple) and isinstance(bottom, tuple)
    assert top[2] > 200 and bottom[0] > 200


@pytest.mark.parametrize("image_format", ["WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_kept(image_format: str) -> None:
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue", "green")]
    file = io.BytesIO()
    frames[0].save(file, format=image_format, save_all=True, append_images=frames[1:], duration=100)
    image = decode(reencode_image(file.getvalue()).data)
    assert getattr(image, "n_frames", 1) == 1
    red = image.convert("RGB").getpixel((15, 15))
    assert isinstance(red, tuple) and red[0] > 200 and red[2] < 60


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png_gives_a_plain_one(mode: str) -> None:
    encoded = reencode_image(audio.make_png(64, 48, mode))
    image = decode(encoded.data)
    assert image.mode in ("L", "RGB", "RGBA")
    assert mode != "I;16" or image.getextrema() != (255, 255)


def test_a_jpeg_for_print_becomes_one_for_screens() -> None:
    assert decode(reencode_image(audio.make_jpeg(64, 48, "CMYK")).data).mode == "RGB"


def progressive_with(scans: int) -> bytes:
    """A small JPEG whose last scan comes again and again."""
    file = io.BytesIO()
    Image.linear_gradient("L").save(file, format="JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + data[-2:]


def png_with(chunks: int) -> bytes:
    png = audio.make_png()
    chunk = struct.pack(">I", 0) + b"tESt" + struct.pack(">I", zlib.crc32(b"tESt"))
    return png[:33] + chunk * chunks + png[33:]


@pytest.mark.parametrize(
    "data",
    [
        progressive_with(20_000),
        b"\xff\xd8" + b"\xff\xe1\x00\x02" * 500_000 + audio.make_jpeg()[2:],
        b"\xff\xd8" + b"\xff" * 5_000_000 + audio.make_jpeg()[2:],
        png_with(500_000),
    ],
    ids=["20,000 scans", "500,000 segments", "filling", "500,000 chunks"],
)
def test_an_image_of_too_many_parts_is_refused_before_it_is_decoded(data: bytes) -> None:
    """Promises 44 and 62. Each scan of a JPEG takes as long as a whole picture."""
    begun = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with pytest.raises(ImageTooLarge):
        reencode_image(data)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - begun < 3


def test_usual_progressive_images_and_what_follows_an_image_are_taken() -> None:
    assert reencode_image(progressive_with(20)).width == 256
    assert reencode_image(audio.make_jpeg() + b"\xff\xda" * 100_000).width == 64
    assert reencode_image(png_with(100)).width == 64
