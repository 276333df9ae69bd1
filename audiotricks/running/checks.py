"""System checks of settings and declarations."""

import os
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern, URLResolver
from django.utils.module_loading import import_string

from audiotricks.plug import VaultApp, file_panels, processing_steps, vault_apps

#: The required variables of each storage.
NEEDED_VARIABLES = {
    "s3": "AWS_STORAGE_BUCKET_NAME, and AWS_S3_ENDPOINT_URL where it is not Amazon's",
    "gcs": "GCS_BUCKET_NAME, and GOOGLE_APPLICATION_CREDENTIALS outside of Google's machines",
    "azure": "AZURE_CONTAINER and AZURE_ACCOUNT_NAME, and AZURE_ACCOUNT_KEY unless a managed identity is used",
}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "[::1]", "testserver", ".localhost"})


@register
def check_hosts(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    messages: list[CheckMessage] = []
    public = sorted(set(settings.ALLOWED_HOSTS) - LOOPBACK)
    if settings.DEBUG and public:
        messages.append(
            Error(
                f"DEBUG is on while ALLOWED_HOSTS names {', '.join(public)}: error pages would show settings.",
                hint="Set DEBUG=false, or leave only localhost in ALLOWED_HOSTS.",
                id="audiotricks.E001",
            )
        )
    if settings.HTTPS_ONLY and not public:
        messages.append(
            Error(
                "HTTPS_ONLY is on, and ALLOWED_HOSTS names no host that others can reach.",
                hint="Set ALLOWED_HOSTS to the name in the certificate, such as audio.example.com.",
                id="audiotricks.E002",
            )
        )
    if settings.HTTPS_ONLY and not settings.BEHIND_PROXY:
        messages.append(
            Warning(
                "HTTPS_ONLY is on and BEHIND_PROXY is off: unless the server speaks TLS itself, every request is "
                "redirected for ever.",
                hint="Set BEHIND_PROXY=true when a proxy in front ends TLS and sets X-Forwarded-Proto.",
                id="audiotricks.W001",
            )
        )
    if settings.EMAIL_HOST and "*" in settings.ALLOWED_HOSTS:
        messages.append(
            Warning(
                "ALLOWED_HOSTS takes any name, and the link for a forgotten password leads to the name that the "
                "request came with: somebody else may have it sent with a name of theirs.",
                hint="Set ALLOWED_HOSTS to the names under which people reach this.",
                id="audiotricks.W005",
            )
        )
    return messages


@register
def check_folders(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    messages: list[CheckMessage] = []
    for name in ("AUDIO_STORAGE_PATH", "TEMP_AUDIO_DIR"):
        if reason := why_unwritable(Path(getattr(settings, name))):
            messages.append(
                Error(
                    f"{name}: {reason}",
                    hint=f"Let the user that runs this write there, or set {name} to another folder.",
                    id="audiotricks.E003",
                )
            )
    return messages


@register
def check_storage_alias(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    alias = settings.AUDIO_STORAGE
    if alias in settings.STORAGES:
        return []
    return [
        Error(
            f"AUDIO_STORAGE is {alias!r}, and no such storage is configured.",
            hint=f"Set {NEEDED_VARIABLES[alias]}; .env.example lists them all.",
            id="audiotricks.E004",
        )
    ]


@register
def check_one_machine(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """SQLite, the filesystem broker and the cache in memory work on one machine only."""
    messages: list[CheckMessage] = []
    embedded_database = settings.DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3"
    if embedded_database and not settings.CELERY_BROKER_IS_EMBEDDED:
        messages.append(
            Warning(
                "The tasks' broker can be reached from other machines, and the database is a SQLite file on this one.",
                hint="Set DATABASE_URL to PostgreSQL before a worker runs elsewhere.",
                id="audiotricks.W002",
            )
        )
    processes = settings.WEB_WORKERS
    if processes > 1 and str(settings.CACHES["default"]["BACKEND"]).endswith("LocMemCache"):
        messages.append(
            Warning(
                f"{processes} web processes each count requests for themselves, so a client may send {processes} times "
                "what the throttles say.",
                hint="Set REDIS_URL, or WEB_WORKERS=1.",
                id="audiotricks.W003",
            )
        )
    return messages


@register
def check_browser_code(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if finders.find("audiotricks/build/pages.js"):
        return []
    return [
        Warning(
            "The browser code is not built: every page works, but nothing on it moves by itself.",
            hint="Run `make build`.",
            id="audiotricks.W004",
        )
    ]


@register
def check_names(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """One of two equal names would hide the other."""
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    for app in vault_apps():
        for attribute in VaultApp.__annotations__:
            for name in getattr(app, attribute):
                owners[attribute, name].append(app.label)
        for path in app.file_actions:
            owners["file_actions", import_string(path).name].append(app.label)
        for urls in (*app.api_urls, *app.page_urls):
            patterns: list[URLPattern | URLResolver] = import_module(urls).urlpatterns
            for name in {pattern.name for pattern in patterns if isinstance(pattern, URLPattern) and pattern.name}:
                owners["urlpatterns", name].append(app.label)
    return [
        Error(
            f"{' and '.join(labels)} both declare {name!r} ({attribute}).",
            hint="Give one of them another name, or take one of the apps out of INSTALLED_APPS.",
            id="audiotricks.E005",
        )
        for (attribute, name), labels in owners.items()
        if len(labels) > 1
    ]


@register
def check_order(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    try:
        processing_steps()
        file_panels()
    except ImproperlyConfigured as error:
        hint = "Name the path of one that an installed app declares, or none."
        return [Error(str(error), hint=hint, id="audiotricks.E006")]
    return []


def why_unwritable(path: Path) -> str:
    """Empty when the folder, or its future parent, is writable."""
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        return f"{existing} is not a folder."
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"{existing} cannot be written."
    return ""
