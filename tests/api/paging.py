"""Every list with a cursor, paged to its end; runs on the database that the settings name."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db.models import F
from django.db.models.expressions import Combinable
from django.db.models.functions import Now as DjangosNow
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiToken
from accounts.tokens import create_token
from audiotricks.api.schema import EnglishSchemaGenerator
from audiotricks.clock import Now
from audiotricks.keyset import page_of, pages_of
from quotas.models import Membership, Workspace
from quotas.pages.views import BY_NAME
from quotas.pages.views import NEWEST as NEWEST_WORKSPACES
from quotas.workspaces import create_workspace, personal_workspace
from tests.factories import give_object
from uploads.models import AudioUpload, AudioUploadQuerySet, Status, UploadEvent, UploadSession
from uploads.pages.forms import ORDERINGS
from uploads.pages.lists import IN_TRASH_ORDER

ROWS = 8


def fill() -> User:
    """Several rows of one moment, others a little apart, all by the database's clock, as services write them."""
    user = User.objects.create_user("pager", password="pager")
    mine = personal_workspace(user)
    for number in range(ROWS):
        workspace = create_workspace(user, name=f"Space {number}")
        other = User.objects.create_user(f"other{number}")
        Membership.objects.create(workspace=mine, user=other, role="viewer")
        create_token(user, name=f"token {number}", expires_in=None)
        for status in (Status.COMPLETED, Status.DELETED):
            upload = AudioUpload(
                workspace=mine if number % 2 else workspace,
                original_filename="same.wav",
                file_size=10,
                file_type="wav",
                mime_type="audio/wav",
                storage_provider="local",
                storage_path=f"audio/{status}{number}",
            )
            give_object(upload)
            upload.save()
            AudioUpload.objects.filter(pk=upload.pk).update(status=status, uploaded_at=Now())
            write_times(AudioUpload.objects.filter(pk=upload.pk), Now())
    first = AudioUpload.objects.filter(workspace=mine).order_by("pk").first()
    assert first is not None
    for number in range(ROWS):
        UploadEvent.objects.create(upload_id=first.pk, workspace=mine, action="renamed", reason=str(number))
    for status in (Status.COMPLETED, Status.DELETED):
        five = list(AudioUpload.objects.filter(status=status).values_list("pk", flat=True)[:5])
        write_times(AudioUpload.objects.filter(pk__in=five), Now())
    # A whole second has no fraction as Python writes it.
    for model, name in ((Workspace, "created_at"), (ApiToken, "created")):
        ids = list(model.objects.values_list("pk", flat=True)[:5])  # type: ignore[attr-defined]
        model.objects.filter(pk__in=ids).update(**{name: Now()})  # type: ignore[attr-defined]
    whole = AudioUpload.objects.filter(status=Status.COMPLETED).latest("uploaded_at")
    AudioUpload.objects.filter(pk=whole.pk).update(uploaded_at=whole.uploaded_at.replace(microsecond=0))  # type: ignore[union-attr]
    begin_sessions(user)
    return user


def begin_sessions(user: User) -> None:
    """Uploads that are not finished, five of them of one moment."""
    for number in range(ROWS):
        UploadSession.objects.create(
            kind=UploadSession.Kind.TUS,
            workspace=personal_workspace(user),
            owner=user,
            is_partial=True,
            storage_provider="local",
            storage_path=f"partials/{number}",
            part_bytes=1,
            expires_at=timezone.now() + timedelta(days=1),
        )
    five = list(UploadSession.objects.values_list("pk", flat=True)[:5])
    UploadSession.objects.filter(pk__in=five).update(created_at=Now())


def lists(user: User) -> dict[str, int]:
    """The address of each list of the API with how many rows it has."""
    mine = personal_workspace(user)
    first = AudioUpload.objects.filter(workspace=mine).order_by("pk").first()
    assert first is not None
    return {
        reverse("upload-list"): ROWS,
        reverse("upload-list") + "?status=deleted": ROWS,
        reverse("api-workspace-list"): ROWS + 1,
        reverse("api-member-list", args=[mine.pk]): ROWS + 1,
        reverse("api-token-list"): ROWS,
        reverse("upload-event-list", args=[first.pk]): ROWS,
        reverse("upload-session-list"): ROWS,
    }


def names_with_cursor() -> set[str]:
    """The lists that the OpenAPI document says to have a cursor."""
    paths = EnglishSchemaGenerator().get_schema(request=None, public=True)["paths"]
    return {
        path
        for path, item in paths.items()
        if any(parameter["name"] == "cursor" for parameter in item.get("get", {}).get("parameters", []))
    }


def followed(client: Client, address: str, direction: str = "next") -> Iterator[Any]:
    """The rows of all pages; stops where it would go on for ever."""
    for _page in range(100):
        answer = client.get(address).json()
        yield answer["results"]
        if not answer[direction]:
            return
        address = answer[direction]
    raise AssertionError(f"{address} has no end")


def key_of(row: dict[str, Any]) -> Any:
    return row.get("id") or row.get("user") or row


def page_through_everything(user: User) -> None:
    client = Client()
    client.force_login(user)
    for address, count in lists(user).items():
        for size in (1, 2, 3):
            sized = f"{address}{'&' if '?' in address else '?'}page_size={size}"
            pages = list(followed(client, sized))
            rows = [str(key_of(row)) for page in pages for row in page]
            assert len(rows) == len(set(rows)) == count, (sized, len(rows), len(set(rows)), count)
    completed = AudioUpload.objects.filter(status=Status.COMPLETED)
    trashed = AudioUpload.objects.filter(status=Status.DELETED)
    workspaces, members = Workspace.objects.all(), Membership.objects.filter(workspace=personal_workspace(user))
    members = members.annotate(username=F("user__username"))
    for rows, ordering in [
        *((completed, ordering) for ordering in ORDERINGS.values()),
        (trashed, IN_TRASH_ORDER),
        (workspaces, NEWEST_WORKSPACES),
        (members, BY_NAME),
    ]:
        for size in (1, 2, 3):
            every = rows.count()
            batches = [row.pk for batch in pages_of(rows, ordering, size=size) for row in batch]
            assert len(batches) == len(set(batches)) == every, (ordering, size)
            seen, cursor = [], ""
            for _page in range(100):
                page = page_of(rows, ordering, size=size, cursor=cursor)
                seen += [row.pk for row in page.rows]
                if not page.has_next:
                    break
                cursor = page.next
            assert seen == batches, (ordering, size)
            back = [row.pk for row in page.rows]
            while page.has_previous and len(back) <= every:
                page = page_of(rows, ordering, size=size, cursor=page.previous)
                back = [*(row.pk for row in page.rows), *back]
            assert back == batches, (ordering, size, "backwards")
    for address, count in ((reverse("files-csv"), ROWS), (reverse("trash-csv"), ROWS)):
        lines = b"".join(client.get(address).streaming_content).decode().splitlines()  # type: ignore[attr-defined]
        assert len(set(lines)) == len(lines) == count + 1, (address, len(lines))


def write_times_of_before() -> None:
    """As versions before wrote them on SQLite."""
    write_times(AudioUpload.objects.all(), DjangosNow())


def write_times(uploads: AudioUploadQuerySet, now: Combinable) -> None:
    """One moment for all of them: when they arrived, and when those in the trash were thrown away."""
    uploads.update(uploaded_at=now)
    uploads.in_trash().update(deleted_at=now)
