"""Uploads in progress, as staff see and end them."""

from pathlib import Path

import pytest

from quotas.models import Workspace
from tests.uploads.life import counted
from tests.uploads.sending import files_under
from tests.uploads.sessions import again, begin, recording, send
from tests.uploads.staff import staff_with, superuser

pytestmark = pytest.mark.django_db(transaction=True)

SESSIONS = "/admin/uploads/uploadsession/"
DATA = recording(150_000)


def test_staff_see_what_arrived_and_end_an_upload(workspace: Workspace, audio_root: Path) -> None:
    """Promise 22. Expiry and DELETE release bytes and quota."""
    session = send(begin(workspace, DATA), DATA[:4096])
    partial = begin(workspace, DATA, is_partial=True)
    client = superuser()
    page = client.get(f"{SESSIONS}?kind__exact=tus").content.decode()
    assert "4.0\xa0KB" in page and "a part of another upload" in page and session.handle not in page
    for row in (session, partial):
        address = f"{SESSIONS}{row.pk}/end/"
        assert client.get(f"{SESSIONS}{row.pk}/change/").status_code == 200
        assert client.get(address).status_code == 200 and again(row).is_open
        assert client.post(address, {"confirmed": "1"}).status_code == 302
        assert again(row).error_code == "upload_ended_by_staff"
    assert counted(workspace) == (0, 0, 0, 0) and not files_under(audio_root)


def test_those_who_may_only_look_end_nothing(workspace: Workspace) -> None:
    session = begin(workspace, DATA)
    client = staff_with("view_uploadsession")
    assert client.post(f"{SESSIONS}{session.pk}/end/", {"confirmed": "1"}).status_code in (302, 403)
    assert again(session).is_open
