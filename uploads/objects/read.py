"""Reads stored objects and compares them with their rows."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Protocol

import structlog
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from audiotricks.database import release_connection
from objectstore import get_storage
from objectstore.checksums import difference
from objectstore.errors import ObjectNotFound, ObjectReadDiffers, PermanentStorageError
from objectstore.hashing import StreamDigests, digest_of_file
from uploads.errors import ObjectDamaged, ObjectLost

log = structlog.get_logger(__name__)

NAMES = {"size": _("size"), "sha256": "SHA-256", "md5": "MD5"}


class Described(Protocol):
    """An upload, or the object's own row."""

    @property
    def storage_provider(self) -> str: ...

    @property
    def storage_path(self) -> str: ...

    @property
    def facts(self) -> Mapping[str, int | str]: ...


def ensure_whole(row: Described, found: Mapping[str, int | str]) -> None:
    """Raise ObjectDamaged for a difference in known facts, with ``what`` (``size``, ``sha256``, ``md5``), ``expected``
    and ``found``.
    """
    what = difference(row.facts, found)
    if what is not None:
        expected, stored = row.facts[what], found[what]
        words = _("The stored object's {what} is {stored}; it arrived with {known}.")
        raise ObjectDamaged(
            format_lazy(words, what=NAMES[what], stored=stored, known=expected),
            what=what,
            expected=expected,
            found=stored,
        )


def digest_object(row: Described) -> StreamDigests:
    """Twice if a network may have damaged it. Raises ObjectLost, ObjectDamaged if the storage reports other content,
    and storage errors.
    """
    with suppress(ObjectDamaged, ObjectReadDiffers):
        digests = _read(row)
        if get_storage(row.storage_provider).directory is None:
            ensure_whole(row, digests.facts)
        return digests
    with damaged_if_it_differs():
        return _read(row)


def examine_object(row: Described) -> StreamDigests | ObjectLost | ObjectDamaged:
    """The digests, ObjectLost or ObjectDamaged. Raises a StorageError if the object cannot be read. Not in a
    transaction, since it releases the connection.
    """
    release_connection()
    try:
        digests = digest_object(row)
        ensure_whole(row, digests.facts)
    except (ObjectLost, ObjectDamaged) as error:
        return error
    except OSError as error:
        log.error("stored_object_unreadable", name=row.storage_path, error=error.strerror)
        raise PermanentStorageError from error
    return digests


@contextmanager
def damaged_if_it_differs() -> Iterator[None]:
    try:
        yield
    except ObjectReadDiffers as error:
        found = error.members
        raise ObjectDamaged(
            _("The storage sends other bytes than its own checksum says."),
            what=found["algorithm"],
            expected=found["expected"],
            found=found["found"],
        ) from error


def _read(row: Described) -> StreamDigests:
    try:
        with get_storage(row.storage_provider).open_range(row.storage_path) as stored:
            return digest_of_file(stored)
    except ObjectNotFound as error:
        raise ObjectLost from error
