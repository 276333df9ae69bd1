"""What mutagen says of a file's length and bit rate, as the format that it was accepted as. Runs in the sandbox."""

from typing import Any, BinaryIO

import mutagen
from mutagen.asf import ASF
from mutagen.mp3 import MPEGInfo
from mutagen.mp4 import MP4
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggvorbis import OggVorbis

from uploads.framing import after_id3

MUTAGEN_CLASSES: dict[str, tuple[type[mutagen.FileType], ...]] = {
    "ogg": (OggVorbis, OggOpus, OggFLAC, OggSpeex),
    "mov": (MP4,),
    "asf": (ASF,),
}
ID3_HEADER_BYTES = 10


def read_info(file: BinaryIO, demuxer: str) -> Any:
    """mutagen's ``info``, or None where it does not know the format or gives up on the file."""
    file.seek(0)
    try:
        if demuxer == "mp3":
            begin = after_id3(file.read(ID3_HEADER_BYTES))
            file.seek(0)
            return MPEGInfo(file, begin or None)
        classes = MUTAGEN_CLASSES.get(demuxer)
        known = mutagen.File(file, options=classes) if classes else None
        return getattr(known, "info", None)
    except (mutagen.MutagenError, ValueError, LookupError, EOFError, OverflowError, RecursionError, MemoryError):
        return None
