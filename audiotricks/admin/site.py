"""The sidebar and first page of the administration, from declarations of apps."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.module_loading import import_string
from django.utils.text import capfirst
from django.utils.translation import gettext

from audiotricks.admin.base import capped_count
from audiotricks.admin.operation import alive_since
from audiotricks.models import TaskRun, WorkerHeartbeat
from audiotricks.plug import declared


@dataclass(frozen=True)
class Figure:
    """``alarming``: needs attention."""

    title: str
    value: str
    link: str = ""
    alarming: bool = False


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The tables that this person may view."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for label, (group, icon) in declared(lambda app: app.sidebar.items()):
        if may_view(request, label):
            groups.setdefault(str(group), []).append(table_item(label, icon))
    shown = [{"title": title, "items": items} for title, items in groups.items()]
    back = {"title": gettext("Back to the pages"), "icon": "arrow_back", "link": reverse("files"), "active": False}
    return [*shown, {"title": "", "separator": True, "items": [back]}]


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
    """Figures are counted by an index, up to a thousand."""
    context["title"] = gettext("At a glance")
    context["figures"] = [
        figure for path in declared(lambda app: app.figures) for figure in import_string(path)(request)
    ]
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
