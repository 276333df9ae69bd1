from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from audiotricks.admin.base import ReadOnlyAdmin, VaultAdmin, is_referred_to, link_to
from audiotricks.clock import Now
from audiotricks.models import EncryptionKey, IdempotencyKey, WorkerHeartbeat


@admin.register(WorkerHeartbeat)
class WorkerHeartbeatAdmin(ReadOnlyAdmin):
    list_display = ("name", "is_alive", "seen_at")
    ordering = ("-seen_at",)
    fields = ("name", "is_alive", "seen_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkerHeartbeat]:
        """Compares with the clock that wrote the heartbeats."""
        alive = ExpressionWrapper(Q(seen_at__gte=alive_since()), output_field=BooleanField())
        workers: QuerySet[WorkerHeartbeat] = super().get_queryset(request)
        return workers.annotate(alive=alive)

    @display(description=_("Alive"), boolean=True)
    def is_alive(self, worker: Any) -> bool:
        return bool(worker.alive)


def alive_since() -> Any:
    return Now() - timedelta(seconds=settings.WORKER_SEEN_SECONDS)


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnlyAdmin):
    """Hides the stored response, which belongs to the user."""

    list_display = ("key", "owner", "method", "path", "state", "response_status", "expires_at")
    list_select_related = ("user",)
    list_filter = ("state",)
    search_fields = ("=key", "=user__username")
    search_help_text = _("The whole key, or the whole name of a user.")
    ordering = ("-expires_at",)
    fields = ("key", "owner", "method", "path", "state", "response_status", "claimed_at", "expires_at")

    @display(description=_("User"))
    def owner(self, key: IdempotencyKey) -> SafeString | str | None:
        return link_to(key.user)


@admin.register(EncryptionKey)
class EncryptionKeyAdmin(VaultAdmin):
    """A reference in use cannot change, or its objects would be unreadable."""

    list_display = ("provider", "key_reference", "created_at")
    list_filter = ("provider",)
    search_fields = ("key_reference",)
    fields = ("provider", "key_reference")

    def has_change_permission(self, request: HttpRequest, obj: EncryptionKey | None = None) -> bool:
        return bool(super().has_change_permission(request, obj)) and (obj is None or not is_referred_to(obj))

    def has_delete_permission(self, request: HttpRequest, obj: EncryptionKey | None = None) -> bool:
        return bool(super().has_delete_permission(request, obj)) and (obj is None or not is_referred_to(obj))
