"""Uploads over several requests, as the protocols use them."""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import User

from quotas.models import Membership, Workspace
from tests.audio import make_wav
from tests.factories import member_of
from uploads.intake.sessions.begin import begin_session
from uploads.intake.sessions.receive import receive
from uploads.intake.sessions.writing import session_row
from uploads.models import UploadSession

TUS = UploadSession.Kind.TUS
MEBIBYTE = 1024**2


class BrokenOff(Exception):
    """The client hung up."""


class Sent:
    """The body of a request: these pieces, each as one read; then its end, or ``error``."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self.pieces = [memoryview(piece) for piece in pieces if piece]
        self.error = error

    def readinto(self, buffer: memoryview) -> int:
        if not self.pieces:
            if self.error is not None:
                raise self.error
            return 0
        piece = self.pieces[0][: len(buffer)]
        buffer[: len(piece)] = piece
        self.pieces[0] = self.pieces[0][len(piece) :]
        if not self.pieces[0]:
            del self.pieces[0]
        return len(piece)

    def is_idle(self, seconds: float) -> bool:
        return False


def recording(size_bytes: int, *, seed: int = 0) -> bytes:
    """A WAV file of exactly so many bytes."""
    data = make_wav(seed=seed, seconds=size_bytes / 16_000 + 1)
    while len(data) < size_bytes:
        data += data
    return data[:size_bytes]


def editor_of(workspace: Workspace) -> User:
    return member_of(workspace, Membership.Role.EDITOR)


def begin(workspace: Workspace, data: bytes, **given: Any) -> UploadSession:
    values: dict[str, Any] = {"filename": "tone.wav", "size_bytes": len(data), **given}
    if values.get("is_partial"):
        values["filename"] = ""
    owner = values.pop("owner", None) or editor_of(workspace)
    return begin_session(values.pop("kind", TUS), workspace=workspace, owner=owner, **values)


def send(session: UploadSession, data: bytes, *, offset: int = 0, **given: Any) -> UploadSession:
    """One request with these bytes, as the session's owner."""
    owner = given.pop("actor", None) or session.owner
    return receive(session, Sent(data), offset=offset, length=len(data), actor=owner, **given)


def send_all(session: UploadSession, data: bytes, pieces: Iterable[int] = ()) -> UploadSession:
    """The whole file, in requests that end at these offsets."""
    start = 0
    for end in (*pieces, len(data)):
        session = send(session, data[start:end], offset=start)
        start = end
    return session


def again(session: UploadSession) -> UploadSession:
    """The session as it is stored now."""
    return session_row(session.pk)
