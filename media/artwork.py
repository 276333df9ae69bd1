"""The picture inside an audio file: the front cover, or else the first one that can be used. Runs in the sandbox."""

import io
from typing import Any, BinaryIO

from media.failure import Failure
from media.found import FRONT_COVER
from media.image import prepare, reencode_image
from media.tag_reader import read_tags

# Each may take as long as a picture may: more than a few are a way to keep us busy.
MAX_TRIES = 4


def extract_artwork(file: BinaryIO, demuxer: str) -> tuple[dict[str, Any], bytes]:
    """The best picture in the tags, encoded again as :func:`media.image.reencode_image` does; ``({}, b"")``
    if there is none.

    Front covers come first. One that cannot be used is passed over; if none can, this raises what the first one
    raised. Links are not followed, and WebM's attachments not looked at.
    """
    candidates = pictures(file, demuxer)[:MAX_TRIES]
    prepare()
    unusable: Exception | None = None
    for data in candidates:
        try:
            return reencode_image(io.BytesIO(data))
        except Exception as error:  # noqa: BLE001 - Pillow raises anything for a broken picture
            unusable = unusable or error
    if isinstance(unusable, Failure | MemoryError):
        raise unusable
    if unusable is not None:
        raise Failure("image_unreadable", f"The image cannot be read: {unusable}") from unusable
    return {}, b""


def pictures(file: BinaryIO, demuxer: str) -> list[bytes]:
    """Every picture as it stands in the tags, unchecked, at most 20 MiB each; front covers first."""
    found = sorted(read_tags(file, demuxer).pictures, key=lambda picture: picture.kind != FRONT_COVER)
    return [picture.data for picture in found]
