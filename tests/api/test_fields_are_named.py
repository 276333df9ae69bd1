"""Serializers, forms and admin pages name their fields: a new column is shown to nobody until somebody names it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.forms.models import BaseModelForm
from django.urls import get_resolver
from rest_framework.serializers import ModelSerializer

from tests.running.programs import ROOT


def ours() -> tuple[str, ...]:
    """The beginnings of our modules' names; the environment may lie in the project's folder."""
    own = (app for app in apps.get_app_configs() if Path(app.path).parent == ROOT)
    return tuple(f"{app.name}." for app in own)


def subclasses(base: type) -> Iterator[Any]:
    for cls in base.__subclasses__():
        yield cls
        yield from subclasses(cls)


def with_meta() -> list[Any]:
    # Every view, and with it every serializer and form that is used, is imported here.
    assert get_resolver("audiotricks.urls").url_patterns
    found = {cls for base in (ModelSerializer, BaseModelForm) for cls in subclasses(base)}
    found = {cls for cls in found if cls.__module__.startswith(ours())}
    return sorted(found, key=lambda cls: f"{cls.__module__}.{cls.__qualname__}")


def names_its_fields(cls: Any) -> bool:
    meta = getattr(cls, "Meta", None)
    fields = getattr(meta, "fields", None)
    return isinstance(fields, list | tuple) and not getattr(meta, "exclude", None)


def test_serializers_and_forms_of_models_name_their_fields() -> None:
    found = with_meta()
    assert len(found) >= 14
    # A form without Meta gets its fields from its admin, which the next test asks.
    assert [cls.__qualname__ for cls in found if hasattr(cls, "Meta") and not names_its_fields(cls)] == []


def admins() -> list[Any]:
    registered = [each for each in admin.site._registry.values() if type(each).__module__.startswith(ours())]
    inlines = [inline for each in registered for inline in each.inlines if inline.__module__.startswith(ours())]
    return [*registered, *inlines]


@pytest.mark.django_db
def test_admin_pages_name_their_fields() -> None:
    found = admins()
    assert len(found) >= 15
    unnamed = [
        getattr(each, "__name__", type(each).__name__)
        for each in found
        if each.fields is None and each.fieldsets is None and not names_its_fields(each.form)
    ]
    assert unnamed == []
    assert [each for each in found if each.exclude] == []
