"""A list as a file for spreadsheets: the same files, nothing that a spreadsheet would run, and streamed."""

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone, translation

from quotas.models import Membership, Workspace
from tests.api.rows import many_uploads
from tests.factories import UserFactory, WorkspaceFactory, member_of
from tests.uploads.life import row
from tests.uploads.pages import sign_in
from uploads.models import Status
from uploads.pages import lists

pytestmark = pytest.mark.django_db


@pytest.fixture
def workspace() -> Workspace:
    made: Workspace = WorkspaceFactory(name="+Radio", slug="radio")
    return made


def read(answer: Any) -> list[list[str]]:
    assert answer.status_code == 200
    text = b"".join(answer).decode("utf-8")
    assert text[0] == "\ufeff"
    return list(csv.reader(io.StringIO(text[1:], newline="")))


def test_a_list_is_saved_with_all_that_is_known_of_each_file(workspace: Workspace) -> None:
    upload = row(
        workspace, Status.COMPLETED, original_filename='a "b", c.wav', file_size=1234, duration="61.500",
        sample_rate=44100, channels=2, bitrate=1411, codec="pcm_s16le", checksum_sha256="ab" * 32,
        uploaded_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )  # fmt: skip
    answer = sign_in(member_of(workspace)).get("/files.csv")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="files.csv"'
    heading, only = read(answer)
    assert dict(zip(heading, only, strict=True)) == {
        "Name": 'a "b", c.wav',
        "Workspace": "'+Radio",
        "State": "Completed",
        "Format": "wav",
        "Bytes": "1234",
        "Seconds": "61.500",
        "Codec": "pcm_s16le",
        "Sample rate (Hz)": "44100",
        "Channels": "2",
        "Bitrate (kbit/s)": "1411",
        "Uploaded (UTC)": "2026-01-02 03:04:05",
        "Deleted (UTC)": "",
        "SHA-256": "ab" * 32,
        "ID": str(upload.pk),
    }


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_a_name_that_a_spreadsheet_would_run_is_text_in_the_list(first: str, workspace: Workspace) -> None:
    """Promise 48. The tag that a codec is named by comes from the file as well."""
    row(workspace, Status.COMPLETED, original_filename=f"{first}cmd|'/c calc'!A1.mp3", codec=f"{first}1+1")
    _, only = read(sign_in(member_of(workspace)).get("/files.csv"))
    assert only[0] == f"'{first}cmd|'/c calc'!A1.mp3"
    assert only[6] == f"'{first}1+1"


def test_the_list_is_narrowed_and_ordered_as_the_page_is(workspace: Workspace) -> None:
    for name, status in (("b.mp3", Status.FAILED), ("a.mp3", Status.FAILED), ("c.mp3", Status.COMPLETED)):
        row(workspace, status, original_filename=name)
    row(workspace, Status.DELETED, original_filename="thrown.mp3", deleted_at=timezone.now())
    client = sign_in(member_of(workspace))
    page = client.get("/?status=failed&sort=name").content.decode()
    assert 'href="/files.csv?status=failed&amp;sort=name"' in page
    assert [line[0] for line in read(client.get("/files.csv?status=failed&sort=name"))[1:]] == ["a.mp3", "b.mp3"]
    assert [line[0] for line in read(client.get("/trash.csv"))[1:]] == ["thrown.mp3"]


def test_files_of_others_are_in_no_saved_list(workspace: Workspace) -> None:
    """Promise 38. A viewer's list holds what the viewer sees."""
    row(WorkspaceFactory(), Status.COMPLETED, original_filename="theirs.mp3")
    row(workspace, Status.COMPLETED, original_filename="ours.mp3")
    client = sign_in(member_of(workspace, Membership.Role.VIEWER))
    assert [line[0] for line in read(client.get("/files.csv"))[1:]] == ["ours.mp3"]
    assert read(sign_in(UserFactory()).get("/files.csv"))[1:] == []


def test_a_long_list_is_complete_and_read_a_batch_at_a_time(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever reads it slowly holds no connection to the database meanwhile."""
    monkeypatch.setattr(lists, "CSV_BATCH", 20)
    released: list[int] = []
    monkeypatch.setattr(lists, "release_connection", lambda: released.append(len(connection.queries)))
    many_uploads(workspace, 70, uploaded_at=timezone.now())
    lines = read(sign_in(member_of(workspace)).get("/files.csv"))[1:]
    assert len({line[-1] for line in lines}) == len(lines) == 70
    assert len(released) == 4


def test_headings_and_states_are_in_the_language_of_who_asks(workspace: Workspace) -> None:
    """Though the rows are sent when the request is over."""
    row(workspace, Status.COMPLETED)
    answer = sign_in(member_of(workspace), **{"Accept-Language": "de"}).get("/files.csv")
    with translation.override("en"):
        heading, only = read(answer)
    with translation.override("de"):
        assert only[2] == Status.COMPLETED.label
        assert heading[0] == translation.gettext("Name")
