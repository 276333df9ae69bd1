"""Marks of storages: each has the id of its vault and its alias, and only its own vault removes objects.

A mark is an object ``vault/mark-<number>.json``; the highest number counts. The database notes a new number, then
writes it, every few minutes. This reveals another database's storage, two aliases for one place (nothing is removed or
stored until staff :func:`adopt`), and a restored database, whose number is behind (every grace period begins anew).

A storage without a mark gets one if it is empty, or if rows, ledger and event log know its objects: names have random
ids. One in a hundred may be unknown, from killed writes.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from django.conf import settings
from django.core.files.base import ContentFile
from django.db import transaction
from django.db.models import F, Max
from django.utils import timezone
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from audiotricks.clock import Now
from audiotricks.database import release_connection
from objectstore import audio_storages, get_storage
from objectstore.base import AudioStorage
from objectstore.errors import ObjectExists, ObjectNotFound, StorageError, TransientStorageError
from objectstore.names import PREFIXES, parse_name
from uploads.models import AudioUpload, StorageMark, StoredObject, UploadEvent, Vault
from uploads.objects.conditions import asking, storages_left_alone

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.utils.functional import _StrOrPromise

log = structlog.get_logger(__name__)

State = StorageMark.State
FOLDER = "vault/"
MARK = re.compile(r"vault/mark-(?P<number>[0-9]{12})\.json")
LARGEST_MARK_BYTES = 4096
#: How long uploads and single purges rely on the last look; sweeps for objects always look again.
TRUSTED_SECONDS = 60
RENEWED_AFTER_SECONDS = 600
#: The objects of each folder that are looked at without a mark.
SAMPLE = 1000
#: The percentage of unknown objects that killed writes explain.
UNKNOWN_PERCENT = 1
READ_ATTEMPTS = 3
ABOUT = "AudioTricks made this file. It says which database the recordings here belong to. Do not remove or copy it."


class StorageNotOurs(StorageError):
    """Nothing is removed or stored there until staff decide."""

    code = "storage_not_ours"
    status = 503
    title = _("The storage may belong to another vault: its operator has to decide before files can be stored")


@dataclass(frozen=True, slots=True)
class Mark:
    """``vault`` is None where the object is unreadable."""

    number: int
    vault: str = ""
    alias: str = ""


WORDS: Mapping[str, "_StrOrPromise"] = {
    State.OURS: _("The storage “{alias}” belongs to this vault."),
    State.ANOTHER_VAULT: _(
        "The storage “{alias}” carries the mark of another vault ({vault}). Either DATABASE_URL leads to another or an "
        "empty database, or two installations use one place."
    ),
    State.ANOTHER_ALIAS: _("The storages “{alias}” and “{other}” are one and the same place. Configure it once."),
    State.UNKNOWN_OBJECTS: _(
        "The storage “{alias}” has no mark, and of {looked_at} objects that were looked at, this database does not "
        "know {unknown}. Either DATABASE_URL leads to another or an empty database, or another installation uses this "
        "place."
    ),
    State.EMPTIED: _(
        "The storage “{alias}” is empty and its mark is gone, though files should lie there. Perhaps a disk is not "
        "mounted, or somebody emptied the bucket."
    ),
    State.UNREADABLE: _("The storage “{alias}” carries a mark that cannot be understood."),
}


def vault_id() -> UUID:
    """Made at first use; parallel processes get the same one."""
    known = Vault.objects.values_list("pk", flat=True).first()
    return known or Vault.objects.get_or_create(number=1)[0].pk


def ensure_ours(alias: str, *, within_seconds: int = TRUSTED_SECONDS) -> AudioStorage:
    """The storage, for writing or removing objects, after a look at most ``within_seconds`` old. Raises StorageNotOurs,
    and the storage's error.
    """
    storage = get_storage(alias)
    margin = timedelta(seconds=within_seconds)
    recent = StorageMark.objects.filter(alias=alias, checked_at__range=(Now() - margin, Now() + margin))
    mark = (recent.first() if within_seconds else None) or look_at_mark(alias)
    if why := why_held(mark):
        raise StorageNotOurs(why, storage=alias)
    return storage


def why_held(mark: StorageMark) -> "_StrOrPromise":
    """Empty if the storage is ours."""
    if mark.state != State.OURS:
        return words_for(mark)
    other = StorageMark.objects.filter(state=State.ANOTHER_ALIAS, details__alias=mark.alias).first()
    # The row of an alias that is no longer configured is out of date.
    return words_for(other) if other is not None and other.alias in settings.STORAGES else ""


def words_for(mark: StorageMark) -> "_StrOrPromise":
    details = mark.details
    return format_lazy(
        WORDS[mark.state],
        alias=mark.alias,
        vault=details.get("vault", ""),
        other=details.get("alias", ""),
        looked_at=details.get("looked_at", 0),
        unknown=details.get("unknown", 0),
    )


def held_storages() -> dict[str, "_StrOrPromise"]:
    """With the reasons, by the last look."""
    marks = StorageMark.objects.filter(alias__in=list(audio_storages()))
    return {mark.alias: why for mark in marks if (why := why_held(mark))}


def look_at_marks() -> dict[str, int]:
    """Look at each storage and renew its mark, as sweeps require."""
    held = unreadable = 0
    left_alone = storages_left_alone()
    for alias in audio_storages():
        if alias in left_alone:
            unreadable += 1
            continue
        try:
            with asking(alias):
                mark = look_at_mark(alias)
                if mark.state == State.OURS:
                    renew_mark(mark)
        except StorageError as error:
            unreadable += 1
            log.error("mark_not_read", storage=alias, error=str(error))
    for alias, why in held_storages().items():
        held += 1
        log.error("storage_held", storage=alias, why=str(why))
    return {"held": held, "unreadable": unreadable}


def why_not_ours(alias: str) -> "_StrOrPromise":
    """:func:`why_held` from a look now, which writes nothing."""
    storage = get_storage(alias)
    known = StorageMark.objects.filter(alias=alias).first() or StorageMark(alias=alias)
    found = newest_mark(storage)
    if found is not None:
        vault = str(Vault.objects.values_list("pk", flat=True).first() or "")
        known.state, known.details = _judge(alias, vault, found)
    else:
        known.state, known.details = _judge_unmarked(alias, storage, known)
    return why_held(known)


def look_at_mark(alias: str) -> StorageMark:
    """Look, write a mark where that is safe, and record the result. Raises the storage's error, recording nothing."""
    storage = get_storage(alias)
    vault = str(vault_id())
    row, _made = StorageMark.objects.get_or_create(
        alias=alias, defaults={"state": State.UNKNOWN_OBJECTS, "state_since": timezone.now()}
    )
    release_connection()
    found = newest_mark(storage)
    begins_anew = False
    if found is None:
        state, details = _judge_unmarked(alias, storage, row)
        if state != State.OURS:
            return _note(row, state, details)
        _write_mark(row, storage)
        # Another process may have marked the empty storage first.
        found = newest_mark(storage)
        if found is None:
            raise TransientStorageError
        begins_anew = row.number > 0
        row.refresh_from_db()
    state, details = _judge(alias, vault, found)
    return _note(row, state, details, found=found, begins_anew=begins_anew)


def renew_mark(mark: StorageMark) -> None:
    """Some minutes after the last number."""
    due = StorageMark.objects.filter(pk=mark.pk, state=State.OURS, number=mark.number)
    margin = timedelta(seconds=RENEWED_AFTER_SECONDS)
    # A future time is from a clock that was ahead.
    if due.exclude(renewed_at__range=(Now() - margin, Now() + margin)).exists():
        storage = get_storage(mark.alias)
        _write_mark(mark, storage)
        mark.refresh_from_db()
        _remove_older(storage, mark.number)


def adopt(alias: str, *, actor: "User | None" = None) -> StorageMark:
    """Staff decide that this storage belongs to this vault and alias. Every grace period begins anew. Raises the
    storage's error.
    """
    storage = get_storage(alias)
    row = look_at_mark(alias)
    before, words = row.state, str(words_for(row))
    release_connection()
    found = newest_mark(storage)
    _write_mark(row, storage, above=found.number if found else 0)
    row.refresh_from_db()
    _remove_older(storage, row.number)
    newest = newest_mark(storage)
    if newest is None:
        raise TransientStorageError
    state, details = _judge(alias, str(vault_id()), newest)
    log.warning("storage_adopted", storage=alias, before=before, why=words, by=actor.get_username() if actor else "")
    mark = _note(row, state, details, found=newest, begins_anew=True)
    for other in StorageMark.objects.filter(state=State.ANOTHER_ALIAS, details__alias=alias):
        with suppress(StorageError):
            look_at_mark(other.alias)
    return mark


def begin_grace_anew() -> None:
    """In every storage, after the database was restored."""
    with transaction.atomic():
        StorageMark.objects.update(grace_from=Now())
        StoredObject.objects.begin_grace_anew()


def newest_mark(storage: AudioStorage) -> Mark | None:
    for _attempt in range(READ_ATTEMPTS):
        numbers = _numbers_in(storage)
        if not numbers:
            return None
        try:
            with storage.open_range(mark_name(max(numbers)), 0, LARGEST_MARK_BYTES) as file:
                return _parsed(max(numbers), file.read(LARGEST_MARK_BYTES))
        except ObjectNotFound:
            # Renewed since the listing.
            continue
    raise TransientStorageError


def mark_name(number: int) -> str:
    return f"{FOLDER}mark-{number:012}.json"


def _numbers_in(storage: AudioStorage) -> list[int]:
    found = (MARK.fullmatch(stat.name) for stat in storage.list(FOLDER))
    return [int(match["number"]) for match in found if match]


def _parsed(number: int, content: bytes) -> Mark:
    try:
        facts = json.loads(content)
        return Mark(number, vault=str(UUID(facts["vault"])), alias=str(facts["alias"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Mark(number)


def _judge(alias: str, vault: str, found: Mark) -> tuple[StorageMark.State, dict[str, Any]]:
    if not found.vault:
        return State.UNREADABLE, {}
    if found.vault != vault:
        return State.ANOTHER_VAULT, {"vault": found.vault, "alias": found.alias}
    if found.alias != alias:
        return State.ANOTHER_ALIAS, {"alias": found.alias}
    return State.OURS, {}


def _judge_unmarked(alias: str, storage: AudioStorage, row: StorageMark) -> tuple[StorageMark.State, dict[str, Any]]:
    looked_at, unknown = _unknown_objects(alias, storage)
    if not looked_at and row.number > 0 and _should_hold_files(alias):
        return State.EMPTIED, {}
    if unknown * 100 > looked_at * UNKNOWN_PERCENT:
        return State.UNKNOWN_OBJECTS, {"looked_at": looked_at, "unknown": unknown}
    return State.OURS, {}


def _should_hold_files(alias: str) -> bool:
    return StoredObject.objects.filter(storage_provider=alias, state=StoredObject.State.STORED).owned().exists()


def _unknown_objects(alias: str, storage: AudioStorage) -> tuple[int, int]:
    """How many of our names were looked at, and how many are unknown to rows, ledger and event log."""
    ids: dict[str, UUID] = {}
    for prefix in PREFIXES:
        for stat in islice(storage.list(prefix), SAMPLE):
            if parsed := parse_name(stat.name):
                ids[stat.name] = parsed.upload_id
    rows = dict(AudioUpload.objects.filter(pk__in=set(ids.values())).values_list("pk", "storage_provider"))
    in_ledger = StoredObject.objects.filter(storage_provider=alias, storage_path__in=ids)
    known = set(in_ledger.values_list("storage_path", flat=True))
    without_row = {upload_id for upload_id in ids.values() if upload_id not in rows}
    events = UploadEvent.objects.filter(upload_id__in=without_row)
    remembered = set(events.order_by().values_list("upload_id", flat=True).distinct())
    unknown = 0
    for name, upload_id in ids.items():
        if upload_id in rows:
            unknown += rows[upload_id] != alias and name not in known
        else:
            unknown += upload_id not in remembered
    return len(ids), unknown


def _write_mark(row: StorageMark, storage: AudioStorage, *, above: int = 0) -> None:
    """The database first: a number that only the storage has is a newer database's."""
    rows = StorageMark.objects.filter(pk=row.pk)
    with transaction.atomic():
        rows.update(number=F("number") + 1, renewed_at=Now())
        rows.filter(number__lte=above).update(number=above + 1)
        number = rows.values_list("number", flat=True).get()
    facts = {"vault": str(vault_id()), "alias": row.alias, "number": number, "about": ABOUT}
    content = ContentFile(json.dumps(facts, indent=1).encode())
    release_connection()
    with suppress(ObjectExists):
        storage.save(mark_name(number), content, content_type="application/json", metadata=dict)


def _remove_older(storage: AudioStorage, number: int) -> None:
    """A mark that stays (a retention lock) does no harm."""
    with suppress(StorageError):
        for old in [older for older in _numbers_in(storage) if older < number]:
            storage.delete(mark_name(old))


def _note(
    row: StorageMark,
    state: StorageMark.State,
    details: dict[str, Any],
    *,
    found: Mark | None = None,
    begins_anew: bool = False,
) -> StorageMark:
    """With ``begins_anew``, or if the storage's number is ahead, every grace period begins anew. Compares under the
    lock, so that a parallel renewal is no restore.
    """
    with transaction.atomic():
        locked = StorageMark.objects.select_for_update().get(pk=row.pk)
        changes: dict[str, Any] = {"state": state, "details": details, "checked_at": Now()}
        if locked.state != state:
            changes["state_since"] = Now()
        is_behind = found is not None and found.number > locked.number
        if state == State.OURS and (begins_anew or is_behind):
            changes["grace_from"] = Now()
            if found is not None and is_behind:
                changes["number"] = found.number
            StoredObject.objects.filter(storage_provider=row.alias).begin_grace_anew()
            log.warning("grace_periods_begin_anew", storage=row.alias, mark=found.number if found else None)
        StorageMark.objects.filter(pk=row.pk).update(**changes)
    row.refresh_from_db()
    if state != State.OURS:
        log.error("storage_held", storage=row.alias, state=state, why=str(words_for(row)))
    return row


def grace_began(alias: str) -> Any:
    """The earliest possible beginning in this storage, or None."""
    return StorageMark.objects.filter(alias=alias).aggregate(latest=Max("grace_from"))["latest"]
