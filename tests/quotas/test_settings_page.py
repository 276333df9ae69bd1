"""The settings of a workspace: a name, and what becomes of old files, which is asked twice when it takes files away."""

import re
from typing import Any

import pytest

from quotas.models import StorageQuota, Workspace
from tests.factories import StorageQuotaFactory, member_of
from tests.quotas.browser import browser, text_of

pytestmark = pytest.mark.django_db

POLICY = ("retention_days", "auto_cleanup", "archive_threshold_days", "keep_source_audio")


def workspace_with(**policy: Any) -> Workspace:
    return StorageQuotaFactory(workspace__name="Band", **policy).workspace


def policy_of(workspace: Workspace) -> tuple[Any, ...]:
    return StorageQuota.objects.values_list(*POLICY).get(workspace=workspace)


def send(workspace: Workspace, **fields: str) -> Any:
    """The form as a browser sends it: a box that is not ticked is not there."""
    sent = {"name": "Band", "retention_days": "", "archive_threshold_days": "", "keep_source_audio": "on"} | fields
    sent = {name: value for name, value in sent.items() if value or name.endswith("days")}
    return browser(member_of(workspace)).post(f"/workspaces/{workspace.pk}/settings/", sent)


def warning_on(answer: Any) -> str:
    found = re.search(r'<div class="notice warning" role="alert">(.*?)</div>', answer.content.decode(), re.DOTALL)
    return text_of(found[1]) if found else ""


def yes_of(answer: Any) -> str:
    found = re.search(r'<button name="confirmed" value="([^"]+)"', answer.content.decode())
    assert found
    return found[1]


def test_a_workspace_is_renamed_and_keeps_its_short_name() -> None:
    workspace = workspace_with()
    slug = workspace.slug
    answer = send(workspace, name="Big band")
    assert (answer.status_code, answer["Location"]) == (302, f"/workspaces/{workspace.pk}/")
    workspace.refresh_from_db()
    assert (workspace.name, workspace.slug) == ("Big band", slug)


def test_a_policy_that_takes_files_away_says_what_it_does_and_is_saved_only_after_a_yes(settings: Any) -> None:
    settings.TRASH_DAYS = 1
    workspace = workspace_with()
    asked = send(workspace, retention_days="30", auto_cleanup="on")
    assert asked.status_code == 409
    assert (
        "Files that are older than 30 days move to the trash by themselves, beginning with those that are already so "
        "old. From there each goes for good 1 day later."
    ) in warning_on(asked)
    assert policy_of(workspace) == (None, False, None, True)
    assert 'value="30"' in asked.content.decode()

    saved = send(workspace, retention_days="30", auto_cleanup="on", confirmed=yes_of(asked))
    assert saved.status_code == 302
    assert policy_of(workspace) == (30, True, None, True)


def test_a_yes_to_one_policy_is_none_to_another() -> None:
    workspace = workspace_with()
    yes = yes_of(send(workspace, retention_days="300", auto_cleanup="on"))
    asked = send(workspace, retention_days="3", auto_cleanup="on", confirmed=yes)
    assert asked.status_code == 409
    assert "older than 3 days" in warning_on(asked)
    assert "<button>Save" not in asked.content.decode()
    assert policy_of(workspace) == (None, False, None, True)


@pytest.mark.parametrize(
    ("before", "fields", "words"),
    [
        ({"retention_days": 30}, {"retention_days": "30", "auto_cleanup": "on"}, "older than 30 days move"),
        (
            {"retention_days": 30, "auto_cleanup": True},
            {"retention_days": "29", "auto_cleanup": "on"},
            "older than 29 days move",
        ),
        ({}, {"archive_threshold_days": "1"}, "older than 1 day may be archived"),
        ({"archive_threshold_days": 9}, {"archive_threshold_days": "8"}, "older than 8 days may be archived"),
        ({}, {"keep_source_audio": ""}, "The audio of a file goes when what was made from it is finished."),
    ],
)
def test_each_step_that_takes_more_away_is_warned_of(
    before: dict[str, Any], fields: dict[str, str], words: str
) -> None:
    workspace = workspace_with(**before)
    held = policy_of(workspace)
    asked = send(workspace, **fields)
    assert asked.status_code == 409
    assert words in warning_on(asked)
    assert policy_of(workspace) == held


@pytest.mark.parametrize(
    ("before", "fields", "after"),
    [
        (
            {"retention_days": 30, "auto_cleanup": True},
            {"retention_days": "31", "auto_cleanup": "on"},
            (31, True, None, True),
        ),
        ({"retention_days": 30, "auto_cleanup": True}, {"retention_days": "30"}, (30, False, None, True)),
        ({"retention_days": 30}, {"retention_days": "5"}, (5, False, None, True)),
        ({"archive_threshold_days": 9}, {}, (None, False, None, True)),
        ({"keep_source_audio": False}, {}, (None, False, None, True)),
    ],
)
def test_what_spares_files_is_saved_at_once(
    before: dict[str, Any], fields: dict[str, str], after: tuple[Any, ...]
) -> None:
    workspace = workspace_with(**before)
    assert send(workspace, **fields).status_code == 302
    assert policy_of(workspace) == after


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": " "}, "This field is required."),
        ({"name": "x" * 201}, "at most 200 characters"),
        ({"retention_days": "0"}, "greater than or equal to 1"),
        ({"retention_days": "36501"}, "less than or equal to 36500"),
        ({"archive_threshold_days": "soon"}, "Enter a whole number."),
        ({"auto_cleanup": "on"}, "Say after how many days files expire"),
    ],
)
def test_what_cannot_be_a_setting_is_told_beside_its_field(fields: dict[str, str], words: str) -> None:
    workspace = workspace_with()
    answer = send(workspace, **fields)
    assert answer.status_code == 400
    assert words in text_of("".join(re.findall(r'<ul class="errors".*?</ul>', answer.content.decode(), re.DOTALL)))
    workspace.refresh_from_db()
    assert (workspace.name, policy_of(workspace)) == ("Band", (None, False, None, True))


def test_a_clean_up_that_waits_for_its_days_does_not_keep_the_workspace_from_being_renamed() -> None:
    workspace = workspace_with(auto_cleanup=True)
    assert send(workspace, name="Big band", auto_cleanup="on").status_code == 302


def test_owners_set_no_limits_and_no_counters() -> None:
    """Promise 40. The form has neither, whatever is sent with it."""
    workspace = workspace_with(max_storage_bytes=5, current_storage_bytes=4)
    slug = workspace.slug
    forged = {
        "max_storage_bytes": "99",
        "current_storage_bytes": "0",
        "slug": "other",
        "personal_of": "1",
        "quota": "1",
    }
    assert send(workspace, retention_days="9", **forged).status_code == 302
    workspace.refresh_from_db()
    quota = StorageQuota.objects.get(workspace=workspace)
    assert (quota.max_storage_bytes, quota.current_storage_bytes, quota.retention_days) == (5, 4, 9)
    assert (workspace.slug, workspace.personal_of) == (slug, None)
