"""The bytes of a file that lies in a bucket: who may have them is sent there, and nobody else."""

import io
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from django.core.files.base import ContentFile
from django.test import Client
from rest_framework.test import APIClient

from media.formats import AUDIO_FORMATS
from objectstore import get_storage
from objectstore.base import AudioStorage, Availability
from objectstore.errors import PermanentStorageError, TransientStorageError
from quotas.models import Workspace
from tests.api.rows import CONTENT, store_thumbnail, store_upload
from tests.api.test_log_lines import written
from tests.audio import make_jpeg
from tests.factories import UserFactory, client_for, member_of
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.uploads.listening import hear
from uploads.models import AudioUpload, Status
from uploads.serving import content
from uploads.serving.links import sign_link

pytestmark = pytest.mark.django_db
__all__ = ["written"]
SIZE = len(CONTENT)


@pytest.fixture
def bucket(s3_server: ObjectServer, settings: Any) -> AudioStorage:
    storage = configure(settings, s3_server)
    settings.AUDIO_STORAGE = "s3"
    return storage


@pytest.fixture
def upload(workspace: Workspace, bucket: AudioStorage) -> AudioUpload:
    return store_upload(workspace)


@pytest.fixture
def client(workspace: Workspace) -> APIClient:
    return client_for(member_of(workspace, "viewer"))


@pytest.fixture
def silent(bucket: AudioStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage fails the test that asks it anything."""

    def asked(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the storage was asked")

    for name in ("stat", "open_range"):
        monkeypatch.setattr(bucket, name, asked)
    monkeypatch.setattr(bucket.signer, "sign", asked)


def get(client: APIClient, upload: AudioUpload, verb: str = "GET", query: str = "", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.generic(verb, f"/api/v1/uploads/{upload.pk}/content/{query}", headers=named)


def test_who_may_hear_it_is_sent_to_the_bucket_for_a_while(
    client: APIClient, upload: AudioUpload, settings: Any, written: io.StringIO
) -> None:
    """Promise 49, Promise 51, Promise 52. The address is for him alone, and on no line of the log."""
    settings.SIGNED_URL_SECONDS = 77
    answer = get(client, upload)
    assert (answer.status_code, answer.content) == (302, b"")
    assert answer["Cache-Control"] == "private, no-store"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "ETag" not in answer and "Accept-Ranges" not in answer
    query = parse_qs(urlsplit(answer["Location"]).query)
    assert query["X-Amz-Expires"] == ["77"]
    heard = requests.get(answer["Location"], timeout=30)
    assert (heard.content, heard.headers["Content-Type"]) == (CONTENT, "audio/mpeg")
    assert heard.headers["Content-Disposition"] == 'inline; filename="tone.mp3"'
    saved = requests.get(get(client, upload, query="?download")["Location"], timeout=30)
    assert saved.headers["Content-Disposition"] == 'attachment; filename="tone.mp3"'
    assert "/content/" in written.getvalue()
    assert query["X-Amz-Signature"][0] not in written.getvalue() and "X-Amz" not in written.getvalue()


def test_a_long_name_makes_no_answer_that_proxies_refuse(client: APIClient, upload: AudioUpload) -> None:
    """nginx takes 4 KiB of headers by default; a signature with a session's token needs two of them."""
    AudioUpload.objects.filter(pk=upload.pk).update(original_filename="録" * 480 + ".mp3")
    answer = get(client, upload, query="?download")
    assert len(answer["Location"]) < 2048
    assert sum(len(name) + len(value) + 4 for name, value in answer.headers.items()) < 3072
    saved = requests.get(answer["Location"], timeout=30)
    assert saved.content == CONTENT
    assert saved.headers["Content-Disposition"].endswith("%E9%8C%B2.mp3")


@pytest.mark.usefixtures("silent")
def test_who_may_not_is_told_so_before_anything_is_signed(workspace: Workspace, upload: AudioUpload) -> None:
    """Promise 7, Promise 38, Promise 51. Strangers, the trash, the archive, conditions that fail: as on a disk."""
    assert get(client_for(UserFactory()), upload).status_code == 404
    assert get(APIClient(), upload).status_code == 401
    client = client_for(member_of(workspace, "viewer"))
    etag = f'"{upload.checksum_sha256}"'
    for headers, status in [
        ({"If_None_Match": etag}, 304),
        ({"If_Match": '"other"'}, 412),
        ({"Range": f"bytes={SIZE}-"}, 416),
    ]:
        answer = get(client, upload, **headers)
        assert (answer.status_code, answer["ETag"], "Location" in answer) == (status, etag, False)
    for state, status in [(Status.DELETED, 404), (Status.PURGED, 404), (Status.ARCHIVED, 409), (Status.RESTORING, 409)]:
        AudioUpload.objects.filter(pk=upload.pk).update(status=state)
        assert get(client, upload).status_code == status


@pytest.mark.usefixtures("silent")
def test_head_is_answered_from_the_row_alone(client: APIClient, upload: AudioUpload) -> None:
    answer = get(client, upload, "HEAD")
    assert (answer.status_code, answer["Content-Length"], answer["Accept-Ranges"]) == (200, str(SIZE), "bytes")


@pytest.mark.parametrize(
    ("headers", "is_sent"),
    [
        ({"Range": "bytes=0-"}, True),
        ({"Range": "bytes=5-9"}, True),
        ({"Range": "bytes=-9"}, False),
        ({"Range": "bytes=0-1,5-6"}, False),
        ({"Range": "bytes=5-9", "If_Range": "ours"}, False),
        ({"Range": "bytes=5-9", "If_Range": '"theirs"'}, True),
        ({"If_Match": "ours"}, False),
        ({"If_Unmodified_Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, False),
        ({"If_None_Match": '"another"'}, True),
    ],
)
def test_what_a_provider_would_not_understand_as_we_do_is_answered_by_us(
    client: APIClient, upload: AudioUpload, headers: dict[str, str], is_sent: bool
) -> None:
    """A client repeats its headers where it is sent, and nobody there knows our ETag."""
    headers = {name: value.replace("ours", f'"{upload.checksum_sha256}"') for name, value in headers.items()}
    assert get(client, upload, **headers).status_code in ((302,) if is_sent else (200, 206))
    heard = hear(client, f"/api/v1/uploads/{upload.pk}/content/", **headers)
    if is_sent:
        return
    assert heard.body == {"bytes=-9": CONTENT[-9:], "bytes=5-9": CONTENT[5:10]}.get(headers.get("Range", ""), CONTENT)


def test_only_audio_of_ours_is_given_by_a_provider(client: APIClient, upload: AudioUpload) -> None:
    """Promise 42. It cannot send our policies; so all that it may send is of a type in which nothing runs."""
    assert all(audio.mime_type.startswith("audio/") for audio in AUDIO_FORMATS.values())
    for mime_type in ("text/html", "image/svg+xml", ""):
        AudioUpload.objects.filter(pk=upload.pk).update(mime_type=mime_type)
        heard = hear(client, f"/api/v1/uploads/{upload.pk}/content/")
        assert (heard.address, heard.body) == ("", CONTENT)
        assert heard.headers["Content-Type"] == "application/octet-stream"
        assert heard.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


def test_without_redirects_the_bytes_come_through_us(client: APIClient, upload: AudioUpload, settings: Any) -> None:
    settings.DOWNLOAD_REDIRECTS = False
    path = f"/api/v1/uploads/{upload.pk}/content/"
    heard = hear(client, path)
    assert (heard.status, heard.body, heard.address) == (200, CONTENT, "")
    assert heard.headers["Content-Length"] == str(SIZE)
    part = hear(client, path, Range="bytes=100-199")
    assert (part.status, part.body, part.address) == (206, CONTENT[100:200], "")
    assert part.headers["ETag"] == f'"{upload.checksum_sha256}"'


def test_a_storage_without_an_address_is_read_by_us(
    client: APIClient, upload: AudioUpload, bucket: AudioStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an account without a key to sign with has none."""
    monkeypatch.setattr(bucket.signer, "sign", lambda *args, **options: None)
    assert hear(client, f"/api/v1/uploads/{upload.pk}/content/").body == CONTENT
    assert content.media_origins() == []


@pytest.mark.parametrize("redirects", [True, False])
def test_an_object_that_is_gone_is_told_by_us(
    client: APIClient, upload: AudioUpload, bucket: AudioStorage, settings: Any, redirects: bool
) -> None:
    settings.DOWNLOAD_REDIRECTS = redirects
    bucket.delete(upload.storage_path)
    answer = get(client, upload)
    assert (answer.status_code, answer.json()["code"]) == (500, "object_missing")


@pytest.mark.parametrize("redirects", [True, False])
def test_an_object_that_a_rule_of_the_bucket_archived_is_a_conflict(
    client: APIClient,
    upload: AudioUpload,
    bucket: AudioStorage,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    redirects: bool,
) -> None:
    settings.DOWNLOAD_REDIRECTS = redirects
    stat = type(bucket).stat
    monkeypatch.setattr(type(bucket), "stat", lambda *args: replace(stat(*args), availability=Availability.ARCHIVED))
    answer = get(client, upload)
    assert (answer.status_code, answer.json()["code"]) == (409, "object_archived")


@pytest.mark.parametrize("redirects", [True, False])
def test_a_file_that_moves_to_another_storage_meanwhile_is_found_there(
    client: APIClient,
    upload: AudioUpload,
    bucket: AudioStorage,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    redirects: bool,
) -> None:
    settings.DOWNLOAD_REDIRECTS = redirects
    get_storage("local").save(upload.storage_path, ContentFile(CONTENT))
    stale = AudioUpload.objects.get(pk=upload.pk)
    AudioUpload.objects.filter(pk=upload.pk).update(storage_provider="local")
    bucket.delete(upload.storage_path)
    monkeypatch.setattr("uploads.api.views.UploadViewSet.get_object", lambda view: stale)
    assert hear(client, f"/api/v1/uploads/{upload.pk}/content/").body == CONTENT


def test_a_file_that_is_purged_meanwhile_is_not_called_lost(
    client: APIClient, upload: AudioUpload, bucket: AudioStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 7."""
    bucket.delete(upload.storage_path)
    monkeypatch.setattr("uploads.api.views.UploadViewSet.get_object", lambda view: upload)
    AudioUpload.objects.filter(pk=upload.pk).update(status=Status.PURGED)
    assert get(client, upload).status_code == 404
    stale = store_upload(upload.workspace)
    monkeypatch.setattr("uploads.api.views.UploadViewSet.get_object", lambda view: stale)
    bucket.delete(stale.storage_path)
    AudioUpload.objects.filter(pk=stale.pk).delete()
    assert get(client, stale).status_code == 404


def test_who_asks_while_we_cannot_reach_the_bucket_is_sent_there_all_the_same(
    client: APIClient, upload: AudioUpload, bucket: AudioStorage, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 14. He may reach it; through us it is a clean 503."""

    def away(*args: Any) -> None:
        raise TransientStorageError

    monkeypatch.setattr(type(bucket), "stat", away)
    assert hear(client, f"/api/v1/uploads/{upload.pk}/content/").body == CONTENT
    settings.DOWNLOAD_REDIRECTS = False
    answer = get(client, upload)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")


def test_a_link_leads_there_as_well(workspace: Workspace, upload: AudioUpload) -> None:
    """Promise 51."""
    signature = sign_link(upload, maker=member_of(workspace))
    answer = Client().get("/listen/", {"signature": signature})
    assert (answer.status_code, answer["Cross-Origin-Resource-Policy"]) == (302, "cross-origin")
    assert requests.get(answer["Location"], timeout=30).content == CONTENT
    AudioUpload.objects.filter(pk=upload.pk).update(status=Status.DELETED)
    assert Client().get("/listen/", {"signature": signature}).status_code == 410


def test_a_picture_is_ours_to_give_and_one_that_is_gone_is_none(
    client: APIClient, upload: AudioUpload, bucket: AudioStorage
) -> None:
    """Promise 42."""
    store_thumbnail(upload, make_jpeg())
    path = f"/api/v1/uploads/{upload.pk}/thumbnail/"
    shown = hear(client, path)
    assert (shown.status, shown.body, shown.address) == (200, make_jpeg(), "")
    bucket.delete(upload.thumbnail_path)
    assert hear(client, path).status == 404


def media_sources(answer: Any) -> list[str]:
    directives = dict(part.split(" ", 1) for part in answer["Content-Security-Policy"].split("; ") if " " in part)
    return directives["media-src"].split()


def test_pages_with_a_player_let_it_go_to_the_bucket_and_no_others_do(
    workspace: Workspace, upload: AudioUpload, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer, staff = Client(), Client()
    viewer.force_login(member_of(workspace, "viewer"))
    staff.force_login(UserFactory(is_staff=True, is_superuser=True))
    origin = settings.STORAGES["s3"]["OPTIONS"]["endpoint_url"]
    pages = [(viewer, f"/files/{upload.pk}/"), (staff, f"/admin/uploads/audioupload/{upload.pk}/change/")]
    for client, path in pages:
        assert media_sources(client.get(path)) == ["'self'", "blob:", origin]
    assert media_sources(viewer.get("/")) == ["'self'", "blob:"]

    def fails(*args: Any, **options: Any) -> None:
        raise PermanentStorageError

    with monkeypatch.context() as patched:
        content.origin_of.cache_clear()
        patched.setattr(get_storage("s3").signer, "sign", fails)
        assert media_sources(viewer.get(pages[0][1])) == ["'self'", "blob:"]
    settings.DOWNLOAD_REDIRECTS = False
    for client, path in pages:
        assert media_sources(client.get(path)) == ["'self'", "blob:"]
