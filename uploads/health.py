"""What ``/health`` asks about the storage. Neither answer names a path."""

from typing import Any

from django.conf import settings

from uploads.storage import default_alias, get_storage


def check_storage() -> dict[str, Any]:
    """Whether the default storage answers at all: it is asked for an object that is not there."""
    storage = get_storage(default_alias())
    storage.exists("audio/health")
    return {"storage": default_alias()}


def check_disk() -> dict[str, Any]:
    """Raises StorageFull when less than DISK_RESERVE_BYTES are left; ``low`` warns under DISK_WARNING_BYTES."""
    storage = get_storage(default_alias())
    storage.ensure_space(0)
    space = storage.space()
    if space is None:
        return {}
    return {"free_bytes": space.free_bytes, "low": space.free_bytes < settings.DISK_WARNING_BYTES}
