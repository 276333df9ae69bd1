from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from accounts.checks import check_staff
from audiotricks.running import checks
from tests.factories import UserFactory, auditor


def ids(messages: list[Any]) -> list[str]:
    assert all(message.hint for message in messages)
    return [message.id for message in messages]


@pytest.mark.parametrize(
    ("debug", "https", "proxy", "hosts", "expected"),
    [
        (False, False, False, ["localhost"], []),
        (False, True, True, ["audio.example.com"], []),
        (True, False, False, ["localhost", "127.0.0.1"], []),
        (True, False, False, ["localhost", "*"], ["audiotricks.E001"]),
        (False, True, True, ["localhost"], ["audiotricks.E002"]),
        (False, True, False, ["audio.example.com"], ["audiotricks.W001"]),
    ],
)
def test_hosts_that_do_not_go_with_the_rest_are_named(
    settings: Any, debug: bool, https: bool, proxy: bool, hosts: list[str], expected: list[str]
) -> None:
    settings.DEBUG, settings.HTTPS_ONLY, settings.BEHIND_PROXY, settings.ALLOWED_HOSTS = debug, https, proxy, hosts
    assert ids(checks.check_hosts(None)) == expected


def test_mail_whose_links_anybody_can_bend_is_named(settings: Any) -> None:
    """A link for a new password leads to the host that the request named."""
    settings.ALLOWED_HOSTS, settings.EMAIL_HOST = ["*"], ""
    assert ids(checks.check_hosts(None)) == []
    settings.EMAIL_HOST = "mail.example.com"
    assert ids(checks.check_hosts(None)) == ["audiotricks.W005"]
    settings.ALLOWED_HOSTS = ["audio.example.com"]
    assert ids(checks.check_hosts(None)) == []


@pytest.mark.parametrize("name", ["AUDIO_STORAGE_PATH", "TEMP_AUDIO_DIR"])
def test_a_folder_that_cannot_be_made_is_named(settings: Any, tmp_path: Path, name: str) -> None:
    settings.AUDIO_STORAGE_PATH = settings.TEMP_AUDIO_DIR = tmp_path / "to" / "be" / "made"
    assert ids(checks.check_folders(None)) == []
    file = tmp_path / "file"
    file.touch()
    setattr(settings, name, file / "audio")
    (message,) = checks.check_folders(None)
    assert message.msg.startswith(name) and str(file) in message.msg


def test_a_storage_that_is_not_configured_is_named(settings: Any) -> None:
    assert ids(checks.check_storage_alias(None)) == []
    settings.AUDIO_STORAGE = "s3"
    assert ids(checks.check_storage_alias(None)) == ["audiotricks.E004"]


def one_machine(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[str]:
    values = {"engine": "postgresql", "embedded_broker": False, "workers": 1, "cache": "locmem.LocMemCache"} | changes
    monkeypatch.setattr(
        checks,
        "settings",
        SimpleNamespace(
            DATABASES={"default": {"ENGINE": f"django.db.backends.{values['engine']}"}},
            CELERY_BROKER_IS_EMBEDDED=values["embedded_broker"],
            WEB_WORKERS=values["workers"],
            CACHES={"default": {"BACKEND": f"django.core.cache.backends.{values['cache']}"}},
        ),
    )
    return ids(checks.check_one_machine(None))


def test_sqlite_with_a_broker_for_many_machines_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one_machine(monkeypatch, engine="sqlite3", embedded_broker=True) == []
    assert one_machine(monkeypatch, engine="postgresql") == []
    assert one_machine(monkeypatch, engine="sqlite3") == ["audiotricks.W002"]


def test_several_web_processes_that_count_for_themselves_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one_machine(monkeypatch, workers=2) == ["audiotricks.W003"]
    assert one_machine(monkeypatch, workers=2, cache="redis.RedisCache") == []


@pytest.mark.django_db
def test_staff_without_a_permission_are_named_by_migrate() -> None:
    auditor()
    assert ids(check_staff(None, databases=["default"])) == []
    UserFactory(username="ada", is_staff=True)
    (warning,) = check_staff(None, databases=["default"])
    assert "ada" in warning.msg and "make_groups" in str(warning.hint)
    assert check_staff(None) == []
