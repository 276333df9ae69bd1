"""What surrounds the tables: the sidebar, and the first page with what one wants to know at a glance.

Named in ``settings.UNFOLD``. Tables and figures of the apps above are named, not imported.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import structlog
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.module_loading import import_string
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from audiotricks.admin.base import capped_count
from audiotricks.admin.operation import alive_since
from audiotricks.models import TaskRun, WorkerHeartbeat

log = structlog.get_logger(__name__)

# Each group's tables, with an icon out of Material Symbols; one that is not in the administration is left out.
GROUPS: tuple[tuple[Any, tuple[tuple[str, str], ...]], ...] = (
    (
        _("Files"),
        (
            ("uploads.audioupload", "graphic_eq"),
            ("uploads.uploadevent", "history"),
            ("uploads.bulkaction", "checklist"),
            ("uploads.uploadsession", "cloud_upload"),
            ("uploads.orphanedobject", "help_center"),
            ("uploads.storagemark", "verified_user"),
            ("uploads.heldremoval", "front_hand"),
        ),
    ),
    (
        _("Workspaces"),
        (
            ("quotas.workspace", "workspaces"),
            ("quotas.membership", "group"),
            ("quotas.storagequota", "data_usage"),
            ("quotas.quotareservation", "pending"),
        ),
    ),
    (
        _("People"),
        (
            ("auth.user", "person"),
            ("auth.group", "groups"),
            ("audiotricks.apitoken", "key"),
            ("audiotricks.auditevent", "policy"),
        ),
    ),
    (
        _("Operation"),
        (
            ("django_celery_beat.periodictask", "schedule"),
            ("audiotricks.taskrun", "task_alt"),
            ("django_celery_beat.intervalschedule", "timer"),
            ("django_celery_beat.crontabschedule", "calendar_month"),
            ("audiotricks.workerheartbeat", "memory"),
            ("audiotricks.idempotencykey", "replay"),
            ("audiotricks.encryptionkey", "lock"),
        ),
    ),
)


@dataclass(frozen=True)
class Figure:
    """A number of the first page, in words where it needs them; ``alarming`` when somebody should look."""

    title: str
    value: str
    link: str = ""
    alarming: bool = False


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar: what this person may look at, and the way back to the pages."""
    groups: list[dict[str, Any]] = [
        {"title": title, "items": [table_item(label, icon) for label, icon in tables if may_view(request, label)]}
        for title, tables in GROUPS
    ]
    back = {"title": gettext("Back to the pages"), "icon": "arrow_back", "link": reverse("files"), "active": False}
    return [*(group for group in groups if group["items"]), {"title": "", "separator": True, "items": [back]}]


def table_item(label: str, icon: str) -> dict[str, Any]:
    name = capfirst(str(apps.get_model(label)._meta.verbose_name_plural))
    return {"title": name, "icon": icon, "link": list_address(label)}


def list_address(label: str, **query: str) -> str:
    address = reverse(f"admin:{label.replace('.', '_')}_changelist")
    return f"{address}?{urlencode(query)}" if query else address


def may_view(request: HttpRequest, label: str) -> bool:
    app, name = label.split(".")
    model = apps.all_models[app].get(name)
    table_admin = admin.site._registry.get(model) if model else None
    return table_admin is not None and table_admin.has_view_permission(request)


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the first page shows. Each number is cheap: by an index, and counted no further than a thousand.

    ``settings.ADMIN_FIGURES`` names the functions that give them.
    """
    context["title"] = gettext("At a glance")
    context["figures"] = [figure for path in settings.ADMIN_FIGURES for figure in import_string(path)(request)]
    return context


def operation_figures(request: HttpRequest) -> list[Figure]:
    figures = []
    if may_view(request, "audiotricks.workerheartbeat"):
        alive = WorkerHeartbeat.objects.filter(seen_at__gte=alive_since()).count()
        address = list_address("audiotricks.workerheartbeat")
        figures.append(Figure(gettext("Workers alive"), str(alive), address, alive == 0))
    if may_view(request, "audiotricks.taskrun"):
        failed = capped_count(TaskRun.objects.filter(succeeded=False), most=100)
        address = list_address("audiotricks.taskrun", outcome="failed")
        figures.append(Figure(gettext("Task runs that failed"), failed, address, failed != "0"))
    return figures


def disk_figures(request: HttpRequest) -> list[Figure]:
    """What ``/health`` knows of the disk; where files lie on none of ours, of the one that working copies need."""
    if not may_view(request, "audiotricks.workerheartbeat"):
        return []
    try:
        told = import_string(settings.HEALTH_CHECKS["disk"])()
    except Exception as error:  # noqa: BLE001 - the first page must open when the storage is what is broken
        log.warning("disk_not_asked", error=str(error))
        return [Figure(gettext("Free disk space"), gettext("unknown"), alarming=True)]
    title = gettext("Free disk space") if told["holds"] == "audio" else gettext("Free disk space for working copies")
    return [Figure(title, filesizeformat(told["free_bytes"]), alarming=told["low"])]
