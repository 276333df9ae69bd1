"""Work whose process is killed at a given moment: for ``tests.forked``.

``main`` takes in an uncompressed file with so many more bytes at its end, for the only user
there is, and sends itself SIGKILL at the moment. Without dying it prints the row's id, as an answer to a client would.
"""

import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from django.contrib.auth.models import User

from objectstore.azure import AzureStorage
from objectstore.gcs.sessions import UploadSession
from objectstore.s3.multipart import MultipartUpload
from quotas.workspaces import personal_workspace
from tests.audio import make_png, make_wav
from tests.uploads.life import Bytes
from uploads.intake import arrivals, ingest
from uploads.lifecycle import trash
from uploads.models import AudioUpload
from uploads.objects import copying, ledger
from uploads.upkeep import moving

DATA = make_wav(seconds=20)


def die(*args: Any, **kwargs: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_after(name: str, *, owner: Any = ingest) -> None:
    real: Callable[..., Any] = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        die()

    setattr(owner, name, call)


def dies_after_a_part() -> None:
    """In a bucket alone: the provider has one part of several."""
    for owner, name in ((MultipartUpload, "send"), (UploadSession, "send"), (AzureStorage, "put_block")):
        dies_after(name, owner=owner)


class Source(Bytes):
    def __init__(self, data: bytes, *, dies: bool) -> None:
        super().__init__(data, thumbnail=make_png())
        self.dies = dies

    def chunks(self) -> Iterator[bytes]:
        half = len(self.data) // 2
        yield self.data[:half]
        if self.dies:
            die()
        yield self.data[half:]


MOMENTS: dict[str, Callable[[], Any]] = {
    "row made": lambda: setattr(ingest, "_write", die),
    "half of the bytes written": lambda: None,
    "object stored": lambda: dies_after("_write"),
    "thumbnail stored": lambda: dies_after("save_thumbnail"),
    "reservation settled, not committed": lambda: dies_after("settle_reservation", owner=arrivals),
    "row moved, not committed": lambda: dies_after("move", owner=arrivals),
    "committed": lambda: dies_after("finish_receiving"),
    "never": lambda: None,
}


def main(moment: str, more_bytes: int = 0) -> None:
    if moment == "part sent":
        dies_after_a_part()
    else:
        MOMENTS[moment]()
    user = User.objects.get()
    source = Source(DATA + bytes(more_bytes), dies=moment == "half of the bytes written")
    upload = ingest.ingest_audio(source, workspace=personal_workspace(user), owner=user, door="test")
    sys.stdout.write(f"{upload.pk}\n")


def purge() -> None:
    """Dies between the commit and the removal of the object."""
    trash.finish_purge = die
    trash.purge_upload(AudioUpload.objects.get(), actor=None)


def dies_at_call(owner: Any, name: str, count: int) -> None:
    real, calls = getattr(owner, name), itertools.count(1)

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == count:
            die()
        return real(*args, **kwargs)

    setattr(owner, name, call)


def move(moment: str) -> None:
    """Moves everything from ``local`` to ``other``, two at a time, and dies with some of it."""
    if moment == "half of the bytes":
        copying.READ_BYTES = 1000
        dies_at_call(copying.StreamDigests, "update", 12)
    elif moment == "in the switch":
        dies_at_call(ledger, "replace", 3)
    list(moving.StorageMove("local", "other", parallel=2).run())
