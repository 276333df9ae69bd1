"""Copies an object to another storage: "make, verify" of "make, verify, replace, release".

The copy's row precedes its first byte, without an owner, so a kill leaves only an object with a grace period, which the
next run takes over if it is whole.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any, TypeVar

import structlog
from django.utils.translation import gettext_lazy as _

from audiotricks.clock import Now
from audiotricks.database import release_connection
from audiotricks.errors import DomainError
from objectstore import get_storage
from objectstore.base import AudioStorage
from objectstore.checksums import difference
from objectstore.content import StreamedContent
from objectstore.errors import ObjectExists, ObjectNotFound, StorageError
from objectstore.hashing import StreamDigests, digest_of_file
from objectstore.retry import call_with_retry
from uploads.errors import ObjectDamaged
from uploads.models import StoredObject
from uploads.objects import ledger
from uploads.objects.marks import ensure_ours
from uploads.objects.read import ensure_whole

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

READ_BYTES = 1024**2
#: The interval at which a copy in progress restarts its grace period.
ALIVE_SECONDS = 60

#: Called, from several threads, with the number of further bytes; negative for those of a failed attempt.
OnBytes = Callable[[int], None]


class SamePlace(DomainError):
    code = "same_storage"
    status = 409
    title = _("Both storages are the same place: there is nothing to move")


class CopyDiffers(StorageError):
    code = "copy_differs"
    status = 503
    title = _("The other storage does not hold what was written to it; the file stays where it was")


class InTheWay(Exception):
    """An object under the name in the target has an owner, is unknown, or is being removed."""


class Copier:
    """Between two storages (aliases), under the same names. Raises PermanentStorageError, SamePlace."""

    def __init__(self, source: str, target: str, *, on_bytes: OnBytes = lambda _count: None) -> None:
        self._to = target
        self._source, self._target = get_storage(source), get_storage(target)
        if source == target or is_same_place(self._source, self._target):
            raise SamePlace
        self._on_bytes = on_bytes

    def size_of(self, name: str) -> int:
        """Bytes in the source. Raises ObjectNotFound."""
        return call_with_retry(self._source.stat, name).size

    def copy(self, old: StoredObject, content_type: str, metadata: Mapping[str, str]) -> StoredObject:
        """The row of a whole copy, ``stored`` and without an owner. Raises ObjectNotFound, ObjectDamaged for the
        source, InTheWay, StorageNotOurs for the target, and storage errors.
        """
        ensure_ours(self._to)
        self._target.ensure_space(old.size_bytes)
        for last in (False, True):
            new = self._row_for(old)
            release_connection()
            try:
                digests = call_with_retry(self._copy, old, new, content_type, metadata)
            except ObjectExists:
                digests = call_with_retry(read_object, self._source, old.storage_path)
                ensure_whole(old, digests.facts)
                if in_target(read_object, self._target, old.storage_path).sha256 != digests.sha256:
                    log.warning("left_over_damaged", storage=self._to, name=old.storage_path)
                    if not ledger.give_up(new):
                        raise InTheWay from None
                    continue
                self._on_bytes(digests.size)
            except ObjectDamaged:
                # A whole source may have been damaged on its way here.
                if last:
                    raise
                continue
            stat = in_target(self._target.stat, old.storage_path)
            if difference(digests.facts, stat.facts):
                ledger.give_up(new)
                raise CopyDiffers
            ledger.mark_stored(
                new,
                size_bytes=digests.size,
                sha256=digests.sha256,
                md5=digests.md5,
                storage_class=stat.storage_class,
            )
            return new
        raise CopyDiffers

    def _row_for(self, old: StoredObject) -> StoredObject:
        """New, or of an unfinished copy. Raises InTheWay."""
        rows = StoredObject.objects.filter(storage_provider=self._to, storage_path=old.storage_path)
        row = rows.first()
        if row is None:
            if self._target.exists(old.storage_path):
                raise InTheWay
            try:
                return ledger.register(
                    self._to, old.storage_path, kind=StoredObject.Kind(old.kind), size_bytes=old.size_bytes
                )
            except ObjectExists:
                raise InTheWay from None
        ours = rows.unneeded().exclude(state=StoredObject.State.REMOVING)
        if not ours.update(state=StoredObject.State.WRITING, unneeded_since=Now()):
            raise InTheWay
        return row

    def _copy(
        self, old: StoredObject, new: StoredObject, content_type: str, metadata: Mapping[str, str]
    ) -> StreamDigests:
        digests = StreamDigests()
        with closing(digests), self._source.open_range(old.storage_path) as file:

            def pieces() -> Iterator[bytes]:
                alive_until = time.monotonic() + ALIVE_SECONDS
                while piece := file.read(READ_BYTES):
                    digests.update(piece)
                    self._on_bytes(len(piece))
                    if time.monotonic() > alive_until:
                        StoredObject.objects.filter(pk=new.pk).unneeded().update(unneeded_since=Now())
                        release_connection()
                        alive_until = time.monotonic() + ALIVE_SECONDS
                    yield piece
                digests.close()
                # Before the storage makes it durable, so that a damaged copy never has the name.
                ensure_whole(old, digests.facts)

            try:
                self._target.save(
                    old.storage_path,
                    StreamedContent(pieces(), expected_bytes=old.size_bytes),
                    content_type=content_type,
                    metadata=lambda: metadata,
                )
            except BaseException:
                self._on_bytes(-digests.size)
                raise
        return digests


def is_same_place(one: AudioStorage, other: AudioStorage) -> bool:
    """As far as their locations tell."""
    probe = "audio/probe"
    if one.location_of(probe) != other.location_of(probe):
        return False
    try:
        return one.path(probe) == other.path(probe)
    except NotImplementedError:  # Django's error for a storage without local paths
        return True


def read_object(storage: AudioStorage, name: str) -> StreamDigests:
    with storage.open_range(name) as file:
        return digest_of_file(file)


def in_target(look: Callable[..., Result], *args: Any) -> Result:
    """Raises InTheWay for an object that was removed meanwhile."""
    try:
        return call_with_retry(look, *args)
    except ObjectNotFound:
        raise InTheWay from None
