"""Decode an image that nobody trusts and encode it again, small and without metadata. Runs in the sandbox."""

import io
import struct
import warnings
from typing import Any, BinaryIO

from PIL import Image, ImageFile, TiffImagePlugin, WebPImagePlugin

from uploads.media.failure import Failure
from uploads.media.limits import forbid_new_files

MAX_SIDE = 4096
# What is served is a thumbnail: larger pictures are scaled down to this on their longer side.
OUTPUT_SIDE = 1024
MAX_IMAGE_BYTES = 64 * 1024**2
# Imported now: Pillow looks for its plugins (EXIF is TIFF) when it first needs them, and no file can be opened then.
PLUGINS = (WebPImagePlugin, TiffImagePlugin)
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
    """The first frame as JPEG, PNG or WebP, as it came, at most 1024 pixels on the longer side, upright.

    Colour profile, EXIF, comments and whatever follows the image are dropped. Raises :class:`Failure` with
    ``unsupported_image`` or ``image_too_large`` (over 4096 x 4096, told from the header); a damaged or truncated image
    raises whatever Pillow does.
    """
    data = file.read(MAX_IMAGE_BYTES + 1)
    if len(data) > MAX_IMAGE_BYTES:
        raise Failure("image_too_large", f"The image has more than {MAX_IMAGE_BYTES} bytes.")
    Image.preinit()
    forbid_new_files()
    Image.MAX_IMAGE_PIXELS = MAX_SIDE * MAX_SIDE
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    image_format = recognise(data)
    try:
        with Image.open(io.BytesIO(data), formats=(image_format,)) as image:
            check_size(*image.size)
            small = shrink(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_large("The image") from None
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


def check_size(width: int, height: int) -> None:
    if width > MAX_SIDE or height > MAX_SIDE:
        raise too_large(f"The image of {width} x {height}")


def too_large(what: str) -> Failure:
    return Failure("image_too_large", f"{what} is too large: at most {MAX_SIDE} x {MAX_SIDE} pixels are accepted.")


def shrink(image: Image.Image) -> Image.Image:
    """Decode the first frame into plain grey, RGB or RGBA, turn it upright, and scale it down if it is large."""
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
    """The EXIF orientation, 1 to 8. EXIF that cannot be read does not spoil the picture."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, struct.error, OSError):
        return 1


def encode(image: Image.Image, image_format: str) -> bytes:
    """Encode pixels and nothing else."""
    image.info.clear()
    output = io.BytesIO()
    if image_format == "PNG":
        image.save(output, format="PNG", optimize=True)
    else:
        image.save(output, format=image_format, quality=85)
    return output.getvalue()
