"""How much sound a file has, and how much is missing."""

from dataclasses import dataclass, field
from typing import BinaryIO

from media.failure import Failure

# Players skip short damage silently; so do we, up to this length in one place.
LOST_SECONDS = 0.25
# And up to this fraction in all places: a file of many joined parts loses a little at each joint.
LOST_FRACTION = 0.1
READ_BYTES = 1024**2


@dataclass(slots=True)
class Sound:
    """Counted seconds, and their bytes from ``begin`` to ``end``. ``rubbish`` has the bytes of stretches without sound,
    ``lost`` the seconds of gaps.
    """

    seconds: float
    sound_bytes: int
    begin: int = 0
    end: int = 0
    rubbish: list[int] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    #: The counted frames, where frames are counted.
    frames: int = 0
    #: The duration of the bytes before the encoder's padding or an edit list is removed; 0 if it is the same.
    coded_seconds: float = 0

    def check_whole(self) -> None:
        """Raise :class:`Failure` if more is missing than players skip."""
        if not self.sound_bytes or self.seconds <= 0:
            return
        rate = self.sound_bytes / self.seconds
        check_losses([*self.lost, *(length / rate for length in self.rubbish)], self.seconds)

    @property
    def bitrate(self) -> float:
        """Bits a second, or 0."""
        seconds = self.coded_seconds or self.seconds
        return self.sound_bytes * 8 / seconds if seconds > 0 else 0


def check_losses(lost: list[float], heard: float) -> None:
    """Raise :class:`Failure` for too long gaps."""
    total = sum(lost)
    if lost and (max(lost) > LOST_SECONDS or total > max(LOST_SECONDS, LOST_FRACTION * (heard + total))):
        reason = f"The audio is damaged: about {total:.1f} seconds of it are missing, or zeros or noise in their place."
        raise Failure("undecodable_audio", reason)


def read_at(file: BinaryIO, at: int, length: int) -> bytes:
    """May be shorter at the end."""
    end = file.seek(0, 2)
    file.seek(min(at, end))
    return file.read(length)


class Part:
    """The bytes from ``begin`` to ``end`` as a file."""

    def __init__(self, file: BinaryIO, begin: int, end: int) -> None:
        self.file = file
        self.begin = begin
        self.end = end
        self.at = begin

    def read(self, length: int = -1) -> bytes:
        left = max(0, self.end - self.at)
        self.file.seek(self.at)
        data = self.file.read(left if length < 0 else min(length, left))
        self.at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = (self.begin, self.at, self.end)[whence] + offset
        return self.tell()

    def tell(self) -> int:
        return self.at - self.begin
