"""An app extends others by declarations on its AppConfig, by dotted paths, since models are not loaded yet."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any, TypeVar

from celery.schedules import crontab
from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import Promise

T = TypeVar("T")
Words = str | Promise


@dataclass(frozen=True)
class ProcessingStep:
    """``done`` is its sentence in the event log; ``after`` the step before it."""

    done: Words
    after: str = ""


@dataclass(frozen=True)
class HealthCheck:
    """A vital one makes ``/health`` ``failing``, others ``degraded``."""

    function: str
    is_vital: bool = True


class VaultApp(AppConfig):
    #: Functions ``(upload) -> StepResult`` that a worker runs for each upload.
    processing_steps: Mapping[str, ProcessingStep] = {}
    #: Names of tasks that are sent with the id of each completed upload.
    follow_up_tasks: Sequence[str] = ()
    #: By name in the schedule: the task and its time. Staff may change the schedule later.
    periodic_tasks: Mapping[str, tuple[str, timedelta | crontab]] = {}
    #: By name in ``/health``: functions ``() -> dict | None`` that raise on failure.
    health_checks: Mapping[str, HealthCheck] = {}
    #: Functions ``(request) -> list[Figure]`` for the first page of the administration.
    figures: Sequence[str] = ()
    #: Tables in the sidebar of the administration, as ``app.model``: the title of their group, and a Material Symbol.
    sidebar: Mapping[str, tuple[Words, str]] = {}
    #: By action of an event: the sentences with a person (``%(actor)s``) and without one, or ``(event) -> str``.
    event_sentences: Mapping[str, tuple[Words, Words] | Callable[[Any], str]] = {}
    #: Instances of ``uploads.actions.base.BulkFileAction``.
    file_actions: Sequence[str] = ()
    #: Functions ``(request, upload, role) -> str`` that render a section of a file's page, each with the path of the
    #: one before it, or an empty one. ``role`` is the person's role in the workspace, or None.
    file_panels: Mapping[str, str] = {}
    #: Modules with ``urlpatterns`` under ``/api/v1/`` and under ``/``.
    api_urls: Sequence[str] = ()
    page_urls: Sequence[str] = ()
    #: Modules whose import registers system checks or signal receivers, once models are loaded.
    registers: Sequence[str] = ()

    # Django would take this imported class for the AppConfig of an ``apps`` module.
    default = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.default = True

    def ready(self) -> None:
        for module in self.registers:
            import_module(module)


def vault_apps() -> list[VaultApp]:
    return [app for app in apps.get_app_configs() if isinstance(app, VaultApp)]


def declared(of: Callable[[VaultApp], Iterable[T]]) -> list[T]:
    """In the order of INSTALLED_APPS."""
    return [entry for app in vault_apps() for entry in of(app)]


def in_order(entries: Iterable[tuple[str, str]]) -> list[str]:
    """Each directly after its predecessor. Raises ImproperlyConfigured."""
    followers: dict[str, list[str]] = defaultdict(list)
    for name, after in entries:
        followers[after].append(name)

    def behind(after: str) -> Iterator[str]:
        for name in followers.pop(after, ()):
            yield name
            yield from behind(name)

    names = list(behind(""))
    if followers:
        raise ImproperlyConfigured(f"No app declares {', '.join(sorted(followers))}, which others are to come after.")
    return names


def processing_steps() -> list[str]:
    return in_order((path, step.after) for path, step in declared(lambda app: app.processing_steps.items()))


def file_panels() -> list[str]:
    return in_order(declared(lambda app: app.file_panels.items()))


def periodic_tasks() -> list[tuple[str, tuple[str, timedelta | crontab]]]:
    return declared(lambda app: app.periodic_tasks.items())
