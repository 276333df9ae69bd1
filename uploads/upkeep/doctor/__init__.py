"""Tests a storage with real requests on small objects under ``doctor/``, without retries. It leaves nothing behind and
touches nothing else.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from objectstore import get_storage
from objectstore.advice import advice_on, needs_of
from objectstore.base import AudioStorage
from objectstore.errors import PermanentStorageError, StorageError
from objectstore.retry import ONCE, retry_policy
from uploads.upkeep.doctor.looks import Absent, Looks, Wrong

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise


class Outcome(StrEnum):
    """``LIMITED``: AudioTricks works without it. ``UNSUPPORTED``: the storage has no such thing."""

    OK = "ok"
    FAILED = "failed"
    LIMITED = "limited"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Finding:
    """``detail`` is the fact, ``advice`` what to do about it."""

    step: "_StrOrPromise"
    outcome: Outcome
    detail: "_StrOrPromise" = ""
    advice: "_StrOrPromise" = ""


def examine_storage(alias: str, *, create: bool = False) -> Iterator[Finding]:
    """Yield the findings, until a step fails that the rest depends on. ``create`` makes a missing bucket. Removes what
    it wrote.
    """
    name = _("settings")
    try:
        storage = get_storage(alias)
        location = storage.location_of("doctor/object.bin").removesuffix("/object.bin")
    except (StorageError, ImproperlyConfigured, ValueError) as error:
        why = error.args[0] if isinstance(error, StorageError) else str(error)
        yield Finding(
            name, Outcome.FAILED, why, _("Look at its settings; `manage.py check` names those that are wrong.")
        )
        return
    yield Finding(name, Outcome.OK, location)
    examination = Examination(alias, storage, create=create)
    try:
        for step in examination.steps():
            finding = examination.take(step)
            yield finding
            if finding.outcome is Outcome.FAILED and step.stops:
                return
    finally:
        examination.looks.clean()


@dataclass(frozen=True, slots=True)
class Step:
    """``right`` is the needed permission. ``stops``: later steps depend on it."""

    name: "_StrOrPromise"
    look: Callable[[], "_StrOrPromise"]
    right: str = ""
    stops: bool = False
    needed: bool = True
    #: Whether other settings may help.
    curable: bool = False


class Examination:
    def __init__(self, alias: str, storage: AudioStorage, *, create: bool) -> None:
        self.storage = storage
        self.looks = Looks(alias, storage, create=create)
        self._create = create

    def steps(self) -> Sequence[Step]:
        looks, sign = self.looks, settings.DOWNLOAD_REDIRECTS
        near = [Step(_("room"), looks.room)]
        far = [
            Step(_("address and clock"), looks.clock, stops=True),
            Step(_("bucket"), looks.bucket, "create" if self._create else "list", stops=True),
        ]
        common = [
            Step(_("write"), looks.write, "write", stops=True, curable=True),
            Step(_("read"), looks.read, "read", stops=True, curable=True),
            Step(_("never overwrites"), looks.overwrite, "write", curable=True),
            Step(_("list"), looks.list, "list"),
            Step(_("copy"), looks.copy, "copy", curable=True),
            Step(_("large file in parts"), looks.parts, "parts", curable=True),
            Step(_("whose it is"), looks.mark, "read"),
        ]
        only_far = [
            Step(_("never overwrites in parts"), looks.overwrite_in_parts, "parts"),
            Step(_("size, checksum, metadata"), looks.facts, "read"),
            Step(_("unfinished parts"), looks.partials, "partials"),
            Step(_("signed URL"), looks.signed, "sign", needed=sign),
            Step(_("private"), looks.private),
            Step(_("direct upload"), looks.direct_upload, "write", needed=False),
            Step(_("encryption"), looks.encryption, "read"),
            Step(_("lifecycle rules"), looks.rules, "rules", needed=False),
            # Last, since a failure means that the object is gone.
            Step(_("signed for reading only"), looks.one_verb, "sign", needed=sign),
        ]
        delete = Step(_("delete"), looks.delete, "delete")
        # Needs an object that was deleted.
        purge = Step(_("purged for good"), looks.purge, "versions")
        if self.storage.bucket is None:
            return [*near, *common, delete]
        return [*far, *common, *only_far, delete, purge]

    def take(self, step: Step) -> Finding:
        bad = Outcome.FAILED if step.needed else Outcome.LIMITED
        try:
            with retry_policy(ONCE):
                return Finding(step.name, Outcome.OK, step.look())
        except Absent as absent:
            return Finding(step.name, Outcome.UNSUPPORTED, absent.detail)
        except Wrong as wrong:
            outcome = Outcome.LIMITED if wrong.is_limit else bad
            cure = self._cure(step) if outcome is Outcome.FAILED else ""
            return Finding(step.name, outcome, wrong.detail, cure or wrong.advice)
        except StorageError as error:
            cure = self._cure(step) if isinstance(error, PermanentStorageError) else ""
            advice = cure or advice_on(error, step.right, needs_of(self.storage.provider))
            return Finding(step.name, bad, error.args[0], advice)
        except OSError as error:
            # Reading an open local file can raise this.
            return Finding(step.name, bad, error.strerror or type(error).__name__, _("Look at the disk."))

    def _cure(self, step: Step) -> "_StrOrPromise":
        """Tested settings with which the storage works, as lines for .env, or empty."""
        if not step.curable:
            return ""
        for lines, storage in self.storage.bucket.alternatives() if self.storage.bucket is not None else ():
            if works(storage):
                written = ", ".join(f"{name}={value}" for name, value in lines.items())
                return format_lazy(_("It works with this in .env: {lines}."), lines=written)
        return ""


def works(storage: AudioStorage) -> bool:
    """A request, parts, and a taken name depend most on a server."""
    looks = Looks("", storage, create=False)
    try:
        with retry_policy(ONCE):
            for look in (looks.write, looks.read, looks.overwrite, looks.copy, looks.parts):
                look()
    except (Wrong, StorageError, OSError):
        return False
    finally:
        looks.clean()
    return True
