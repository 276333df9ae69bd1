"""Checks of ``/health`` about storage, without paths."""

from typing import Any

from django.conf import settings

from audiotricks.running.health import CheckFailed
from audiotricks.temporary import free_bytes
from objectstore import audio_storages, default_alias, get_storage
from objectstore.errors import StorageFull
from objectstore.retry import ONCE, retry_policy
from uploads.objects.brake import waiting_for_staff
from uploads.objects.conditions import failing_writes, storages_left_alone
from uploads.objects.marks import held_storages


def check_storage() -> dict[str, Any]:
    """Whether the default storage works and stored the last uploads. On a disk, writes a small file; in a bucket, asks
    for a missing object. ``left_alone`` names other failing storages.
    """
    alias = default_alias()
    with retry_policy(ONCE):
        get_storage(alias).probe()
    if failing := failing_writes(alias):
        raise CheckFailed(f"The last uploads could not be stored: {failing.failed_writes} in a row.")
    others = sorted(storages_left_alone() & set(audio_storages()) - {alias})
    return {"storage": alias, **({"left_alone": others} if others else {})}


def check_vault() -> None:
    """Raises CheckFailed if a decision of staff waits, by the last looks."""
    held = held_storages()
    if held:
        raise CheckFailed(
            f"Nothing is removed and no new file is taken until staff decide whose it is: {', '.join(sorted(held))}."
        )
    waiting = waiting_for_staff().count()
    if waiting:
        raise CheckFailed(f"Sweeps that would remove very much wait for staff: {waiting}.")


def check_disk() -> dict[str, Any]:
    """Raises StorageFull below DISK_RESERVE_BYTES; ``low`` warns below DISK_WARNING_BYTES. ``holds`` is ``audio`` or
    ``working_copies``.
    """
    storage = get_storage(default_alias())
    storage.ensure_space(0)
    space = storage.space()
    free = free_bytes() if space is None else space.free_bytes
    if free < settings.DISK_RESERVE_BYTES:
        raise StorageFull(required_bytes=0, free_bytes=free)
    return {
        "free_bytes": free,
        "low": free < settings.DISK_WARNING_BYTES,
        "holds": "working_copies" if space is None else "audio",
    }
