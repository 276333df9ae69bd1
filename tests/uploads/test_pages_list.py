"""The list of files and the trash: what they show, narrowed, ordered and by the page."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from quotas.models import Membership, StorageQuota, Workspace
from tests.api.rows import many_uploads, store_upload
from tests.factories import MembershipFactory, UserFactory, WorkspaceFactory, auditor, give_object, member_of, operator
from tests.uploads.life import row
from tests.uploads.pages import names_on, sign_in
from uploads.models import AudioUpload, Status, UploadEvent

pytestmark = pytest.mark.django_db
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def workspace() -> Workspace:
    made: Workspace = WorkspaceFactory(name="Radio", slug="radio")
    return made


def shown(client: Client, address: str = "/", **query: Any) -> list[str]:
    answer = client.get(f"{address}?{urlencode(query)}" if query else address)
    assert answer.status_code == 200
    return names_on(answer.content.decode())


def walked(client: Client, address: str, rel: str) -> list[list[str]]:
    """The names on each page, from this address on."""
    pages = []
    while address:
        page = client.get(address).content.decode()
        pages.append(names_on(page))
        link = re.search(rf'rel="{rel}" href="([^"]+)"', page)
        address = address.split("?")[0] + link[1].replace("&amp;", "&") if link else ""
    return pages


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, ["Éclair.mp3", "b.wav", "a 100%.mp3", "a_b.mp3"]),
        ({"q": "A"}, ["Éclair.mp3", "b.wav", "a 100%.mp3", "a_b.mp3"]),
        ({"q": "a_"}, ["a_b.mp3"]),
        ({"q": "100%"}, ["a 100%.mp3"]),
        ({"q": " B.WAV "}, ["b.wav"]),
        ({"q": "éCL"}, ["Éclair.mp3"]),
        ({"file_type": "wav"}, ["b.wav"]),
        ({"status": "failed"}, ["a 100%.mp3"]),
        ({"status": "failed", "q": "b"}, []),
        ({"workspace": "radio"}, ["Éclair.mp3", "b.wav", "a 100%.mp3"]),
        ({"sort": "oldest"}, ["a_b.mp3", "a 100%.mp3", "b.wav", "Éclair.mp3"]),
        ({"sort": "largest"}, ["a 100%.mp3", "b.wav", "Éclair.mp3", "a_b.mp3"]),
        ({"sort": "smallest", "workspace": "radio"}, ["Éclair.mp3", "b.wav", "a 100%.mp3"]),
        ({"status": "deleted"}, ["Éclair.mp3", "b.wav", "a 100%.mp3", "a_b.mp3"]),
        ({"sort": "nonsense", "file_type": "exe", "status": "'"}, ["Éclair.mp3", "b.wav", "a 100%.mp3", "a_b.mp3"]),
    ],
)
def test_a_list_is_narrowed_and_ordered_as_asked(query: dict[str, str], names: list[str], workspace: Workspace) -> None:
    """What is not offered filters nothing."""
    user = member_of(workspace)
    other = MembershipFactory(user=user).workspace
    for minutes, (held, name, size, status) in enumerate(
        [
            (other, "a_b.mp3", 1, Status.COMPLETED),
            (workspace, "a 100%.mp3", 9, Status.FAILED),
            (workspace, "b.wav", 5, Status.UPLOADED),
            (workspace, "Éclair.mp3", 3, Status.ARCHIVED),
            (workspace, "in the trash.mp3", 3, Status.DELETED),
        ]
    ):
        arrived = BEGAN + timedelta(minutes=minutes)
        row(
            held, status, original_filename=name, file_size=size, file_type=name[-3:],
            uploaded_at=arrived, deleted_at=arrived if status == Status.DELETED else None,
        )  # fmt: skip
    assert shown(sign_in(user), **query) == names


def test_names_are_ordered_up_and_down_the_same_way(workspace: Workspace) -> None:
    for name in ("b 2.mp3", "b 10.mp3", "a.mp3", "c.mp3", "a.mp3"):
        row(workspace, Status.COMPLETED, original_filename=name)
    client = sign_in(member_of(workspace))
    up = shown(client, sort="name")
    assert up[:2] == ["a.mp3", "a.mp3"] and up[-1] == "c.mp3"
    assert shown(client, sort="name-down") == up[::-1]


@pytest.mark.parametrize("sort", ["newest", "oldest", "name", "name-down", "largest", "smallest"])
def test_pages_hold_each_file_once_in_every_order_and_lead_back(sort: str, workspace: Workspace) -> None:
    """Also where names, sizes and times are the same for many files."""
    user = member_of(workspace)
    other = MembershipFactory(user=user).workspace
    for number in range(110):
        upload = AudioUpload(
            workspace=other if number % 3 else workspace, original_filename=f"{number % 7}-{number}.mp3",
            file_size=number % 5, file_type="mp3", status=Status.COMPLETED, storage_provider="local",
            storage_path=f"audio/{number}", uploaded_at=BEGAN + timedelta(minutes=number % 11),
        )  # fmt: skip
        give_object(upload)
        upload.save()
    client = sign_in(user)
    pages = walked(client, f"/?sort={sort}&q=mp3", "next")
    assert [len(page) for page in pages] == [50, 50, 10]
    assert len({name for page in pages for name in page}) == 110
    last = f"/?sort={sort}&q=mp3"
    for _ in range(2):
        page = client.get(last).content.decode()
        last = "/" + re.search(r'rel="next" href="([^"]+)"', page)[1].replace("&amp;", "&")  # type: ignore[index]
        assert f"sort={sort}" in last and "q=mp3" in last
    assert walked(client, last, "prev") == pages[::-1]


@pytest.mark.parametrize("cursor", ["x", "1", "'", "eyJh:1:2", "00000000-0000-0000-0000-000000000000"])
def test_a_place_in_the_list_that_is_none_is_its_beginning(cursor: str, workspace: Workspace) -> None:
    row(workspace, Status.COMPLETED, original_filename="here.mp3")
    assert shown(sign_in(member_of(workspace)), cursor=cursor) == ["here.mp3"]


def test_a_place_in_one_order_is_none_in_another(workspace: Workspace) -> None:
    many_uploads(workspace, 60)
    client = sign_in(member_of(workspace))
    page = client.get("/").content.decode()
    cursor = re.search(r"cursor=([^&\"]+)", page)[1]  # type: ignore[index]
    answer = client.get(f"/?sort=name&cursor={cursor}")
    assert len(names_on(answer.content.decode())) == 50


def test_a_page_whose_files_are_gone_leads_back_to_the_beginning(workspace: Workspace) -> None:
    many_uploads(workspace, 60)
    client = sign_in(member_of(workspace))
    following = re.search(r'rel="next" href="([^"]+)"', client.get("/").content.decode())[1]  # type: ignore[index]
    AudioUpload.objects.all().delete()
    page = client.get("/" + following).content.decode()
    assert "Nothing further down" in page and 'href="/"' in page


def test_files_of_a_workspace_of_others_cannot_be_asked_for(workspace: Workspace) -> None:
    """Promise 38. By its short name or its id, the answer is that for one that never was."""
    row(workspace, Status.COMPLETED)
    client = sign_in(UserFactory())
    for address in ("/", "/trash/", "/files.csv", "/trash.csv"):
        answers = [client.get(address, {"workspace": name}) for name in ("radio", str(workspace.pk), "never-was")]
        assert [answer.status_code for answer in answers] == [404, 404, 404]
        assert len({answer.content for answer in answers}) == 1
    assert "Radio" not in client.get("/").content.decode()


def test_staff_see_all_files_and_may_ask_for_any_workspace(workspace: Workspace) -> None:
    row(workspace, Status.COMPLETED, original_filename="theirs.mp3")
    row(WorkspaceFactory(), Status.COMPLETED, original_filename="others.mp3")
    client = sign_in(operator())
    assert sorted(shown(client)) == ["others.mp3", "theirs.mp3"]
    assert shown(client, workspace="radio") == ["theirs.mp3"]
    assert '<option value="radio" selected>Radio</option>' in client.get("/?workspace=radio").content.decode()


def test_what_was_asked_for_stays_in_the_form(workspace: Workspace) -> None:
    row(workspace, Status.COMPLETED)
    page = sign_in(member_of(workspace)).get("/?q=%22%3Ex&workspace=radio&sort=name").content.decode()
    assert 'value="&quot;&gt;x"' in page
    for chosen in ('value="radio" selected', 'value="name" selected'):
        assert chosen in page
    assert "No file matches" in page and "Show all files" in page


def test_an_empty_house_says_what_to_do() -> None:
    client = sign_in(UserFactory())
    page = client.get("/").content.decode()
    assert "Nothing here yet" in page and 'href="/upload/"' in page
    assert "The trash is empty" in client.get("/trash/").content.decode()


def test_a_file_in_a_personal_workspace_is_told_from_one_in_a_workspace_of_the_same_name() -> None:
    user = UserFactory()
    own = WorkspaceFactory(name="Demo", personal_of=user)
    MembershipFactory(user=user, workspace=own)
    upload = store_upload(own)
    client = sign_in(user)
    assert 'data-name="Workspace">Demo (personal)<' in client.get("/").content.decode()
    assert ">Demo (personal)</a>" in client.get(f"/files/{upload.pk}/").content.decode()


def test_the_trash_shows_what_was_thrown_away_last_first_and_until_when_it_stays(
    workspace: Workspace, settings: Any
) -> None:
    settings.TRASH_DAYS = 30
    for minutes, name in enumerate(["first.mp3", "second.mp3"]):
        row(
            workspace, Status.DELETED, original_filename=name, uploaded_at=BEGAN - timedelta(minutes=minutes),
            deleted_at=BEGAN + timedelta(minutes=minutes),
        )  # fmt: skip
    row(workspace, Status.COMPLETED, original_filename="kept.mp3")
    client = sign_in(member_of(workspace))
    assert shown(client, "/trash/") == ["second.mp3", "first.mp3"]
    assert shown(client, "/trash/", q="first") == ["first.mp3"]
    assert '<time datetime="2026-01-31T00:01:00+00:00">Jan. 31, 2026</time>' in client.get("/trash/").content.decode()


def test_the_trash_says_of_each_workspace_what_it_holds_and_what_it_lost() -> None:
    user = UserFactory()
    for name, size in (("Radio", 1000), ("Press", 3000)):
        held = MembershipFactory(user=user, workspace=WorkspaceFactory(name=name)).workspace
        row(held, Status.DELETED, deleted_at=timezone.now(), file_size=size)
        for _ in range(size // 1000 - 1):
            UploadEvent.objects.create(upload_id=uuid4(), workspace=held, action="displaced")
    page = sign_in(user).get("/trash/").content.decode().replace("\xa0", " ")
    assert "The trash of Radio holds 1000 bytes" in page
    assert "The trash of Press holds 2.9 KB" in page
    assert re.findall(r"(\d+) files? went for good before", page) == ["2"]


def test_the_trash_comes_in_pages(workspace: Workspace) -> None:
    many_uploads(workspace, 120, status=Status.DELETED, deleted_at=timezone.now())
    pages = walked(sign_in(member_of(workspace)), "/trash/", "next")
    assert [len(page) for page in pages] == [50, 50, 20]
    assert len({name for page in pages for name in page}) == 120


def test_what_moves_is_marked_for_the_script_and_the_page_looks_again_without_one(workspace: Workspace) -> None:
    moving = row(workspace, Status.VALIDATING)
    still = row(workspace, Status.COMPLETED)
    client = sign_in(member_of(workspace))
    page = client.get("/").content.decode()
    assert f'<tr id="file-{moving.pk}" data-live data-busy>' in page
    assert f'<tr id="file-{still.pk}" data-announce=' in page
    assert '<noscript><meta http-equiv="refresh"' in page
    AudioUpload.objects.filter(pk=moving.pk).update(status=Status.COMPLETED)
    page = client.get("/").content.decode()
    assert "data-busy" not in page and "http-equiv" not in page


def test_what_each_workspace_holds_is_told_and_only_that_of_the_one_asked_for(workspace: Workspace) -> None:
    StorageQuota.objects.create(workspace=workspace, max_storage_bytes=None)
    store_upload(workspace)
    WorkspaceFactory(name="Somebody else's")
    client = sign_in(member_of(workspace, username="ada"))
    page = client.get("/").content.decode()
    assert "2.0\xa0KB used" in page and "0\xa0bytes of 100.0\xa0GB used" in page
    assert "Somebody else" not in page
    assert "100.0\xa0GB" not in client.get("/?workspace=radio").content.decode()


def test_viewers_see_files_and_no_box_to_tick(workspace: Workspace) -> None:
    upload = row(workspace, Status.COMPLETED)
    thrown = row(workspace, Status.DELETED, deleted_at=timezone.now())
    for role, ticks in ((Membership.Role.VIEWER, False), (Membership.Role.EDITOR, True)):
        client = sign_in(member_of(workspace, role))
        assert (f'value="{upload.pk}" form="selected"' in client.get("/").content.decode()) == ticks
        assert (f'value="{thrown.pk}" form="selected"' in client.get("/trash/").content.decode()) == ticks


@pytest.mark.parametrize(
    ("role", "in_files", "in_trash"),
    [
        (Membership.Role.VIEWER, [], []),
        (Membership.Role.EDITOR, ["delete"], ["undelete"]),
        (Membership.Role.OWNER, ["delete"], ["undelete", "purge"]),
    ],
)
def test_a_list_offers_what_the_role_allows(
    role: str, in_files: list[str], in_trash: list[str], workspace: Workspace
) -> None:
    row(workspace, Status.COMPLETED)
    row(workspace, Status.DELETED, deleted_at=timezone.now())
    client = sign_in(member_of(workspace, role))
    button = r'<button form="selected" name="action" value="(\w+)"'
    assert re.findall(button, client.get("/").content.decode()) == in_files
    assert re.findall(button, client.get("/trash/").content.decode()) == in_trash


@pytest.mark.parametrize("sees_all", [False, True])
@pytest.mark.parametrize("path", ["/", "/?q=tone&sort=name&file_type=mp3", "/trash/", "/trash/?q=tone", "/files.csv"])
def test_a_list_costs_the_same_for_one_file_and_for_fifty(path: str, sees_all: bool) -> None:
    user = auditor() if sees_all else UserFactory()
    client = sign_in(user)
    client.get("/")
    costs = []
    for count in (1, 49):
        workspaces = [MembershipFactory(user=user).workspace for _ in range(1 + count // 10)]
        for number in range(count):
            held = workspaces[number % len(workspaces)]
            row(held, Status.COMPLETED, original_filename="tone.mp3", file_type="mp3", owner=UserFactory())
            row(held, Status.DELETED, original_filename="tone.mp3", deleted_at=timezone.now(), owner=UserFactory())
        with CaptureQueriesContext(connection) as queries:
            answer = client.get(path)
            body = b"".join(answer) if answer.streaming else answer.content
        assert body.count(b"tone.mp3") >= count
        costs.append(len(queries))
    # Of more than four workspaces no quotas are shown. An export is an event of the audit log besides, and the trash
    # says what it holds and what it lost.
    assert costs[1] <= costs[0] <= (8 if path.startswith("/trash/") else 6)


def test_staff_order_by_name_or_size_within_a_workspace_only(workspace: Workspace) -> None:
    """Over everybody's files no index has these orders, and a page would read all of them."""
    for minutes, name in enumerate(["a.mp3", "b.mp3"]):
        arrived = BEGAN + timedelta(minutes=minutes)
        row(workspace, Status.COMPLETED, original_filename=name, uploaded_at=arrived)
    client = sign_in(operator())
    assert shown(client, sort="name") == shown(client) == ["b.mp3", "a.mp3"]
    assert 'value="name"' not in client.get("/").content.decode()
    assert shown(client, sort="name", workspace="radio") == ["a.mp3", "b.mp3"]
