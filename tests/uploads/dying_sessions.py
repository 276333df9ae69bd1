"""Requests of an upload session whose process is killed at a given moment: for ``tests.forked``."""

from collections.abc import Callable
from typing import Any

from objectstore.local.parts import LocalParts
from tests.uploads.dying import die, dies_after
from tests.uploads.sessions import Sent
from uploads.intake.sessions import complete, receive, writing
from uploads.intake.sessions.chunks import store_chunk
from uploads.intake.sessions.concatenate import concatenate
from uploads.intake.sessions.writing import session_row


def _never() -> None:
    """Nothing is killed."""


def _before(owner: Any, name: str) -> Callable[[], None]:
    return lambda: setattr(owner, name, die)


def _written() -> None:
    for name in ("write", "sync"):
        dies_after(name, owner=LocalParts)


MOMENTS: dict[str, Callable[[], None]] = {
    "lease taken": _before(receive.Reception, "run"),
    "written, not counted": _written,
    "counted": lambda: dies_after("save", owner=writing.Writer),
    "before the object": _before(LocalParts, "complete"),
    "object published": lambda: dies_after("complete", owner=LocalParts),
    "file made": _before(complete, "note_written"),
    "never": _never,
}


def send(moment: str, session_id: str, data: bytes, offset: int) -> None:
    MOMENTS[moment]()
    session = session_row(session_id)  # type: ignore[arg-type]
    receive.receive(session, Sent(data), offset=offset, length=len(data), actor=session.owner)


def put_chunk(moment: str, session_id: str, index: int, data: bytes) -> None:
    MOMENTS[moment]()
    session = session_row(session_id)  # type: ignore[arg-type]
    store_chunk(session, index, Sent(data), length=len(data), actor=session.owner)


def join(moment: str, *session_ids: str) -> None:
    MOMENTS[moment]()
    partials = [session_row(session_id) for session_id in session_ids]  # type: ignore[arg-type]
    first = partials[0]
    assert first.owner is not None
    concatenate(partials, workspace=first.workspace, owner=first.owner, filename="tone.wav")
