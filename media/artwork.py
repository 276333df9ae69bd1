"""The picture in an audio file."""

import io
from typing import Any

from media.failure import Failure
from media.found import FRONT_COVER, Found, Picture
from media.image import reencode_image

# Each may take as long as a picture may, so a limit keeps a file from occupying us.
MAX_TRIES = 4


def best_picture(found: Found) -> tuple[dict[str, Any], bytes]:
    """The front cover, else the first usable picture, re-encoded; ``({}, b"")`` without any. Raises the first error if
    none is usable. Ignores links, and attachments of WebM.
    """
    unusable: Exception | None = None
    for picture in ordered(found)[:MAX_TRIES]:
        try:
            return reencode_image(io.BytesIO(picture.data))
        except Exception as error:  # noqa: BLE001 - Pillow raises anything for a broken picture
            unusable = unusable or error
    if isinstance(unusable, Failure | MemoryError):
        raise unusable
    if unusable is not None:
        raise Failure("image_unreadable", f"The image cannot be read: {unusable}") from unusable
    return {}, b""


def ordered(found: Found) -> list[Picture]:
    return sorted(found.pictures, key=lambda picture: picture.kind != FRONT_COVER)
