"""Filters whose choices need no query."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import DropdownFilter, RangeDateFilter
from unfold.utils import parse_date_str

from audiotricks.errors import DomainError
from audiotricks.plug import declared
from media.formats import AUDIO_FORMATS
from uploads.models import Status

#: Modules of the errors with which a file can fail.
FILE_ERRORS = ("uploads.errors", "media.formats", "media.errors", "objectstore.errors")
#: Django's own aliases, without audio.
OTHER_STORAGES = frozenset({"default", "staticfiles"})

Choices = list[tuple[str, Any]]
Rows = QuerySet[Any]


def storage_aliases() -> list[str]:
    """All configured ones, since files stay where they are."""
    return sorted(set(settings.STORAGES) - OTHER_STORAGES)


class FormatFilter(DropdownFilter):
    title = _("format")
    parameter_name = "file_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(extension, audio.name) for extension, audio in sorted(AUDIO_FORMATS.items())]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(file_type=self.value()) if self.value() else queryset


class StorageFilter(DropdownFilter):
    title = _("storage")
    parameter_name = "storage_provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(alias, alias) for alias in storage_aliases()]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(storage_provider=self.value()) if self.value() else queryset


class HoldFilter(DropdownFilter):
    title = _("legal hold")
    parameter_name = "held"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("yes", _("On hold"))]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(legal_hold=True) if self.value() else queryset


class DuplicateFilter(DropdownFilter):
    title = _("stored object")
    parameter_name = "duplicate"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("yes", _("Another file's"))]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(duplicate_of__isnull=False) if self.value() else queryset


class ErrorFilter(DropdownFilter):
    title = _("reason of failure")
    parameter_name = "error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        codes = [(code, str(error.title)) for code, error in DomainError.catalogue.items() if _is_a_files(error)]
        return sorted(codes, key=lambda choice: choice[1])

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(status=Status.FAILED, error_code=self.value()) if self.value() else queryset


def _is_a_files(error: type[DomainError]) -> bool:
    return error.__module__ in FILE_ERRORS


class EventFilter(DropdownFilter):
    title = _("action")
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(action, action.replace("_", " ")) for action in sorted(declared(lambda app: app.event_sentences))]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(action=self.value()) if self.value() else queryset


class DaysFilter(RangeDateFilter):
    """In the viewer's time zone."""

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        first, last = self._day("from"), self._day("to")
        if first:
            queryset = queryset.filter(**{f"{self.parameter_name}__gte": first})
        if last:
            queryset = queryset.filter(**{f"{self.parameter_name}__lt": last + timedelta(days=1)})
        return queryset

    def _day(self, end: str) -> datetime | None:
        """None for text that is no date."""
        given = self.used_parameters.get(f"{self.parameter_name}_{end}", "")
        day = parse_date_str(given)
        if day is None or not 1900 <= day.year <= 9000:
            return None
        return timezone.make_aware(datetime.combine(day, datetime.min.time()))
