"""Re-encodes an untrusted image, small and without metadata."""

import io
import re
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from media.failure import Failure

MAX_SIDE = 4096
# Larger pictures are scaled down to this many pixels on the longer side.
OUTPUT_SIDE = 1024
#: The largest re-encoded picture; photographs have a third of it.
MAX_ENCODED_BYTES = 512 * 1024
MAX_IMAGE_BYTES = 64 * 1024**2
# Encoders write about ten scans; each may take as long as the whole picture.
MAX_SCANS = 100
# The number of parts of the largest PNG in pieces of 4 KiB.
MAX_PARTS = 32_768
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
STANDALONE = frozenset(bytes([0xFF, code]) for code in (0x01, *range(0xD0, 0xDA)))
NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# Imported now: Pillow looks for its plugins (EXIF is TIFF) at first need, when no file can be opened.
PLUGINS = (WebPImagePlugin, TiffImagePlugin)
READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
OPAQUE = frozenset(("1", "L", "RGB", "CMYK", "YCbCr", "I", "I;16", "I;16B", "F"))
SIXTEEN_BITS = frozenset(("I", "I;16", "I;16B"))
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def reencode_image(file: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """The first frame in its own format, upright, at most 1024 pixels on the longer side and MAX_ENCODED_BYTES; nothing
    else is kept.

    Raises :class:`Failure` with ``unsupported_image`` or ``image_too_large`` (by the headers: over 4096 x 4096, or too
    many parts), or Pillow's errors.
    """
    data = file.read(MAX_IMAGE_BYTES + 1)
    if len(data) > MAX_IMAGE_BYTES:
        raise Failure("image_too_large", f"The image has more than {MAX_IMAGE_BYTES} bytes.")
    image_format = recognise(data)
    check_parts(data, image_format)
    if image_format == "WEBP":
        # Opening it allocates memory for the whole picture.
        check_size(*webp_size(data))
    # Image.open would try other formats for broken data, from files that cannot be opened now.
    with READERS[image_format](io.BytesIO(data)) as image:
        check_size(*image.size)
        small = shrink(image)
    encoded = encode(small, image_format)
    while len(encoded) > MAX_ENCODED_BYTES:
        # Noise, or very many colours: half the sides need a quarter of the bytes.
        small = small.resize((max(1, small.width // 2), max(1, small.height // 2)))
        encoded = encode(small, image_format)
    width, height = small.size
    facts = {"extension": EXTENSIONS[image_format], "mime_type": Image.MIME[image_format]}
    return facts | {"width": width, "height": height}, encoded


def recognise(data: bytes) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise Failure("unsupported_image", "The image is neither JPEG, PNG nor WebP.")


def check_parts(data: bytes, image_format: str) -> None:
    """Before decoding."""
    parts = {"JPEG": jpeg_segments, "PNG": png_chunks, "WEBP": webp_chunks}[image_format](data)
    scans = 0
    for number, part in enumerate(parts):
        scans += part == START_OF_SCAN
        if number >= MAX_PARTS or scans > MAX_SCANS:
            raise Failure("image_too_large", "The image consists of too many parts. Save it as a plain picture.")


def jpeg_segments(data: bytes) -> Iterator[bytes]:
    """The marker of each segment (ITU-T T.81, B.1); fill bytes count."""
    at = 2
    while at + 1 < len(data):
        marker = data[at : at + 2]
        yield marker
        if marker == END_OF_IMAGE:
            return
        if marker[0] != 0xFF or marker == b"\xff\xff":
            at += 1
        elif marker in STANDALONE:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == START_OF_SCAN:
            # The data of a scan follow its header, up to the next marker.
            found = NEXT_MARKER.search(data, at)
            at = found.start() if found else len(data)


def png_chunks(data: bytes) -> Iterator[bytes]:
    at = 8
    while at + 8 <= len(data):
        yield data[at + 4 : at + 8]
        at += 12 + int.from_bytes(data[at : at + 4], "big")


def webp_chunks(data: bytes) -> Iterator[bytes]:
    at = 12
    while at + 8 <= len(data):
        yield data[at : at + 4]
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height in the first chunk (RFC 9649, 2.7; RFC 6386, 9.1)."""
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind != b"VP8 ":
        raise Failure("image_unreadable", "The image cannot be read: it has no picture.")
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def check_size(width: int, height: int) -> None:
    if width > MAX_SIDE or height > MAX_SIDE:
        raise too_large(f"The image of {width} x {height}")


def too_large(what: str) -> Failure:
    return Failure("image_too_large", f"{what} is too large: at most {MAX_SIDE} x {MAX_SIDE} pixels are accepted.")


def shrink(image: Image.Image) -> Image.Image:
    """Decode into plain grey, RGB or RGBA, upright and small."""
    image.draft(None, (OUTPUT_SIDE, OUTPUT_SIDE))
    image.load()
    if image.mode in SIXTEEN_BITS:
        plain = image.convert("I").point(lambda value: value / 256).convert("L")
    elif image.mode in OPAQUE and "transparency" not in image.info:
        plain = image.convert("L" if image.mode in ("1", "L") else "RGB")
    else:
        plain = image.convert("RGBA")
    plain.thumbnail((OUTPUT_SIDE, OUTPUT_SIDE))
    turn = TURNS.get(orientation(image))
    return plain.transpose(turn) if turn is not None else plain


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; unreadable EXIF is ignored."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, struct.error, OSError):
        return 1


def encode(image: Image.Image, image_format: str) -> bytes:
    image.info.clear()
    output = io.BytesIO()
    if image_format == "PNG":
        image.save(output, format="PNG", optimize=True)
    else:
        image.save(output, format=image_format, quality=85)
    return output.getvalue()
