"""Open a file with mutagen as the format that it was accepted as, and as no other. Runs in the sandbox."""

from typing import Any, BinaryIO

import mutagen
from mutagen.aiff import AIFF
from mutagen.asf import ASF
from mutagen.flac import FLAC
from mutagen.id3 import ID3
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

MUTAGEN_CLASSES: dict[str, tuple[type[mutagen.FileType], ...]] = {
    "mp3": (MP3,),
    "wav": (WAVE,),
    "flac": (FLAC,),
    "ogg": (OggVorbis, OggOpus, OggFLAC, OggSpeex),
    "mov": (MP4,),
    "aiff": (AIFF,),
    "asf": (ASF,),
}


def read_with_mutagen(file: BinaryIO, demuxer: str) -> Any:
    """What mutagen reads, or None where it does not know the format or gives up on the file."""
    file.seek(0)
    try:
        if demuxer == "aac":
            holder: Any = mutagen.FileType()  # type: ignore[no-untyped-call]
            holder.tags = ID3(file)  # type: ignore[no-untyped-call]
            return holder
        classes = MUTAGEN_CLASSES.get(demuxer)
        return mutagen.File(file, options=classes) if classes else None
    except (mutagen.MutagenError, ValueError, LookupError, EOFError, OverflowError):
        return None
