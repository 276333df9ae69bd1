"""An upload whose process is killed at a given moment.

``main``, in a process of its own, takes in an uncompressed file with so many more bytes at its end, for the only user
there is, and sends itself SIGKILL at the moment. Without dying it prints the row's id, as an answer to a client would.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from django.contrib.auth.models import User

from quotas.workspaces import personal_workspace
from tests.audio import make_png, make_wav
from tests.uploads.life import Bytes
from uploads import arrivals, ingest
from uploads.storage.azure import AzureStorage
from uploads.storage.gcs.sessions import UploadSession
from uploads.storage.s3.multipart import MultipartUpload

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
    for owner, name in ((MultipartUpload, "send"), (UploadSession, "send"), (AzureStorage, "_put_block")):
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
