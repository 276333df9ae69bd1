"""Tags and pictures of a file of any format, in linear time: libraries take minutes for many entries."""

import io
import traceback
from typing import BinaryIO

from media.ape import read_ape
from media.asf_tags import read_asf
from media.chunk_tags import read_aiff, read_wav
from media.found import Found, Patch
from media.framing import after_id3
from media.id3 import read_id3, read_id3v1
from media.matroska import read_matroska
from media.mp4 import read_mp4
from media.vorbis import read_flac, read_ogg

# FFmpeg and mutagen compare each entry with all earlier ones: this many take 0.01 s.
MAX_ENTRIES_FOR_OTHERS = 1_000


def read_tags(file: BinaryIO, demuxer: str) -> Found:
    """Nothing where the tags are broken. The file stays open."""
    size = file.seek(0, 2)
    try:
        return READERS.get(demuxer, nothing_to_read)(file, size)
    except Exception:  # noqa: BLE001 - hostile bytes may raise anything here
        traceback.print_exc()
        return Found(is_cut=True)
    finally:
        file.seek(0)


def nothing_to_read(file: BinaryIO, size: int) -> Found:
    return Found()


def read_stream(file: BinaryIO, size: int) -> Found:
    """ID3v2 precedes APE and ID3v1."""
    found = read_id3(file, 0, size)
    found.fill_from(read_ape(file, size))
    found.fill_from(read_id3v1(file, size))
    return found


def read_flac_file(file: BinaryIO, size: int) -> Found:
    """Some taggers put ID3 in front."""
    file.seek(0)
    begin = after_id3(file.read(10))
    found = read_flac(file, begin, size)
    found.fill_from(read_id3(file, 0, size))
    return found


READERS = {
    "mp3": read_stream,
    "aac": read_stream,
    "flac": read_flac_file,
    "ogg": read_ogg,
    "mov": read_mp4,
    "wav": read_wav,
    "aiff": read_aiff,
    "asf": read_asf,
    "matroska": read_matroska,
}


def without_large_tags(file: BinaryIO, found: Found) -> BinaryIO:
    """Hides tags with too many entries for other readers."""
    if found.entries <= MAX_ENTRIES_FOR_OTHERS:
        return file
    return Patched(file, found.patches)  # type: ignore[return-value]


class Patched(io.RawIOBase):
    def __init__(self, file: BinaryIO, patches: list[Patch]) -> None:
        self.file = file
        self.patches = sorted(patches)
        self.file.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        at = self.file.tell()
        data = self.file.read(size)
        end = at + len(data)
        for offset, replacement in self.patches:
            begin, stop = max(at, offset), min(end, offset + len(replacement))
            if begin < stop:
                data = data[: begin - at] + replacement[begin - offset : stop - offset] + data[stop - at :]
        return data
