"""Signed links: one file, one verb, for a while; whoever has one needs no account."""

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine
from django.core import signing
from django.test import Client
from structlog.testing import capture_logs

from quotas.models import Membership, Workspace
from quotas.workspaces import remove_member
from tests.api.answers import body_of
from tests.api.rows import CONTENT, store_upload
from tests.factories import UserFactory, WorkspaceFactory, member_of
from tests.uploads.pages import post, sign_in
from uploads.lifecycle import trash
from uploads.models import AudioUpload, Status
from uploads.serving.links import SALT, sign_link

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def workspace() -> Workspace:
    made: Workspace = WorkspaceFactory()
    return made


def made_link(client: Client, upload: AudioUpload) -> str:
    """The address as the page shows it, by its path and query."""
    page = client.get(post(client, f"/files/{upload.pk}/link/")["Location"]).content.decode()
    shown = re.search(r'<code id="link-address">(.*?)</code>', page)
    assert shown
    address = urlsplit(html.unescape(shown[1]))
    assert address.netloc == "testserver"
    return f"{address.path}?{address.query}"


def listen(address: str, **headers: str) -> Any:
    """As somebody who is not signed in."""
    return Client().get(address, headers=headers)


def test_a_link_plays_the_file_elsewhere_and_can_be_sought_in(workspace: Workspace) -> None:
    upload = store_upload(workspace)
    address = made_link(sign_in(member_of(workspace, Membership.Role.VIEWER)), upload)
    answer = listen(address)
    assert (answer.status_code, body_of(answer)) == (200, CONTENT)
    assert answer["Content-Type"] == "audio/mpeg"
    part = listen(address, Range="bytes=10-19")
    assert (part.status_code, body_of(part)) == (206, CONTENT[10:20])
    assert part["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_what_a_link_answers_is_harmless_and_nobody_elses(workspace: Workspace) -> None:
    """Promises 42, 43 and 52. As the same bytes are for who is signed in."""
    upload = store_upload(workspace, mime_type="text/html", original_filename='a"\r\nSet-Cookie: b.html')
    answer = listen(f"/listen/?signature={sign_link(upload, maker=member_of(workspace))}")
    body_of(answer)
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"].startswith("attachment;") and answer["Content-Disposition"].isprintable()
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer["Content-Security-Policy"]
    assert "private" in answer["Cache-Control"]
    assert "sessionid" not in answer.cookies


def test_a_link_is_for_one_verb(workspace: Workspace) -> None:
    """Promise 51. Not even HEAD, and nothing that changes anything."""
    upload = store_upload(workspace)
    address = f"/listen/?signature={sign_link(upload, maker=member_of(workspace))}"
    for verb in ("head", "post", "put", "patch", "delete", "options"):
        answer = getattr(Client(), verb)(address)
        assert (answer.status_code, answer["Allow"]) == (405, "GET")


def test_a_link_ends_when_its_time_is_over(workspace: Workspace, settings: Any) -> None:
    """Promise 51."""
    settings.LINK_SECONDS = 600
    upload = store_upload(workspace)
    with time_machine.travel(NOW, tick=False):
        client = sign_in(member_of(workspace))
        address = made_link(client, upload)
        page = client.get(post(client, f"/files/{upload.pk}/link/")["Location"]).content.decode()
        assert "until Jan. 1, 2026, 12:10 p.m." in page
    with time_machine.travel(NOW + timedelta(seconds=599), tick=False):
        assert body_of(listen(address)) == CONTENT
    with time_machine.travel(NOW + timedelta(seconds=600), tick=False):
        answer = listen(address, Accept="text/html")
        assert answer.status_code == 410
        assert b"This link has ended" in answer.content and b"<h1>" in answer.content


def test_a_link_ends_with_the_file_and_lives_again_with_it(workspace: Workspace) -> None:
    """Promise 51. In the trash it is dead at once; purged, for good."""
    user = member_of(workspace)
    upload = store_upload(workspace)
    address = made_link(sign_in(user), upload)
    trash.delete_upload(upload, actor=user)
    assert listen(address).status_code == 410
    trash.undelete_upload(upload, actor=user)
    assert body_of(listen(address)) == CONTENT
    trash.delete_upload(upload, actor=user)
    trash.purge_upload(upload, actor=user)
    assert listen(address).status_code == 410
    AudioUpload.objects.all().delete()
    assert listen(address).status_code == 410


@pytest.mark.parametrize("change", ["leaves", "is not active"])
def test_a_link_ends_when_its_maker_may_no_longer_see_the_file(change: str, workspace: Workspace) -> None:
    """Promises 38 and 51."""
    user: Any = member_of(workspace, Membership.Role.EDITOR)
    upload = store_upload(workspace, owner=user)
    address = f"/listen/?signature={sign_link(upload, maker=user)}"
    assert body_of(listen(address)) == CONTENT
    if change == "leaves":
        remove_member(workspace, user_id=user.pk)
    else:
        user.is_active = False
        user.save()
    assert listen(address).status_code == 410


def test_a_link_that_was_altered_opens_nothing(workspace: Workspace) -> None:
    """Promise 51. Nor does one that another part of the project signed, or one without a signature."""
    user = member_of(workspace)
    upload, other = store_upload(workspace), store_upload(workspace)
    signature = sign_link(upload, maker=user)
    content, stamp, seal = signature.split(":")
    others = sign_link(other, maker=user).split(":")
    elsewhere = signing.dumps([str(upload.pk), user.pk, 2**33], salt="audiotricks")
    for forged in (f"{others[0]}:{stamp}:{seal}", f"{content}:{stamp}:{seal[:-1]}", signature[:-9], "x", elsewhere):
        answer = listen(f"/listen/?signature={forged}", Accept="text/html")
        assert answer.status_code == 403
        assert b"not complete" in answer.content and b"<h1>" in answer.content
    assert signing.loads(signature, salt=SALT)[0] == str(upload.pk)
    for address in ("/listen/", "/listen/?signature="):
        assert listen(address).status_code == 404


def test_a_link_to_an_archived_file_says_that_it_cannot_be_read_now(workspace: Workspace) -> None:
    upload = store_upload(workspace, status=Status.ARCHIVED)
    assert listen(f"/listen/?signature={sign_link(upload, maker=member_of(workspace))}").status_code == 409


def test_the_signature_of_a_link_is_in_no_log_line(workspace: Workspace) -> None:
    """Promise 49. Neither where it is made, nor where it is shown, nor where it is used or refused."""
    upload = store_upload(workspace)
    client = sign_in(member_of(workspace))
    with capture_logs() as lines:
        address = made_link(client, upload)
        body_of(listen(address))
        listen(address + "x")
    (signature,) = parse_qs(urlsplit(address).query)["signature"]
    assert len(lines) >= 4
    assert signature not in repr(lines) and signature.split(":")[-1] not in repr(lines)


def test_a_page_shows_no_link_but_one_to_its_own_file(workspace: Workspace) -> None:
    user = member_of(workspace)
    upload, other = store_upload(workspace), store_upload(workspace)
    client = sign_in(user)
    for link in (sign_link(other, maker=user), "x", "<b>"):
        page = client.get(f"/files/{upload.pk}/", {"link": link}).content.decode()
        assert "link-address" not in page and "Make a link" in page


def test_only_who_sees_a_file_makes_a_link_to_it(workspace: Workspace) -> None:
    """Promise 38."""
    upload = store_upload(workspace)
    assert post(sign_in(UserFactory()), f"/files/{upload.pk}/link/").status_code == 404
    client = sign_in(member_of(workspace))
    assert client.post(f"/files/{upload.pk}/link/").status_code == 403
    assert client.get(f"/files/{upload.pk}/link/").status_code == 405
