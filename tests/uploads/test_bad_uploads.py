"""What is refused, with which code, and that nothing of it stays: no row, object, temporary file or reservation."""

import base64
import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import ApiToken
from accounts.tokens import create_token
from quotas.models import Membership, StorageQuota
from quotas.workspaces import personal_workspace
from tests.audio import audio_bytes, make_mp3, make_png, make_png_bomb, make_wav
from tests.factories import MembershipFactory, StorageQuotaFactory, UserFactory, WorkspaceFactory, client_for
from tests.uploads.sending import (
    BOUNDARY,
    UPLOADS,
    field,
    file_part,
    form,
    form_type,
    post_form,
    post_raw,
    what_is_there,
)
from uploads.models import AudioUpload
from uploads.processing.runner import process_upload

pytestmark = pytest.mark.django_db

MP3 = make_mp3()
HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\nhttp://127.0.0.1/secret.ts\n"
BIG = make_wav(seconds=20)


def digest(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


@pytest.fixture
def user() -> Any:
    return UserFactory()


@pytest.fixture
def client(user: Any) -> Any:
    return client_for(user)


REFUSED: dict[str, tuple[Callable[[Any], Any], int, str]] = {
    # Content that is not what its name says (Promise 41)
    "text as MP3": (lambda c: post_form(c, file_part(b"Dear diary, " * 9000, "a.mp3")), 415, "content_mismatch"),
    "short text as MP3": (lambda c: post_form(c, file_part(b"Dear diary", "a.mp3")), 415, "content_mismatch"),
    "MP3 as WAV": (lambda c: post_form(c, file_part(MP3, "a.wav")), 415, "content_mismatch"),
    "WAV as MP3": (lambda c: post_raw(c, BIG, "a.mp3"), 415, "content_mismatch"),
    "an HLS playlist as MP3": (lambda c: post_form(c, file_part(HLS, "a.mp3")), 415, "content_mismatch"),
    "HTML as OGG": (lambda c: post_raw(c, b"<html><script>alert(1)</script>", "a.ogg"), 415, "content_mismatch"),
    "a playlist by its own name": (lambda c: post_form(c, file_part(HLS, "a.m3u8")), 415, "unsupported_format"),
    "a program": (lambda c: post_raw(c, b"\x7fELF" + b"\0" * 999, "a.exe"), 415, "unsupported_format"),
    "a name without an extension": (lambda c: post_raw(c, MP3, "one"), 415, "unsupported_format"),
    "a name that is an extension": (lambda c: post_raw(c, MP3, ".mp3"), 415, "unsupported_format"),
    # Too little
    "an empty form file": (lambda c: post_form(c, file_part(b"")), 400, "empty_file"),
    "the first bytes of an MP3": (lambda c: post_form(c, file_part(MP3[:100])), 422, "audio_too_short"),
    "the first 40 bytes of a WAV": (lambda c: post_raw(c, BIG[:40], "a.wav"), 422, "audio_too_short"),
    # Names
    "no name in a form": (lambda c: post_form(c, file_part(MP3, "")), 400, "filename_missing"),
    "no name of a raw body": (
        lambda c: post_raw(c, MP3, **{"Content-Disposition": "attachment"}), 400, "filename_missing",
    ),
    "a name of dots": (lambda c: post_raw(c, MP3, "../.."), 400, "filename_missing"),
    "a field instead of a file": (lambda c: post_form(c, field("file", MP3)), 400, "filename_missing"),
    # Digests
    "a wrong digest of a raw body": (
        lambda c: post_raw(c, MP3, **{"Repr-Digest": digest(b"else")}), 422, "digest_mismatch",
    ),
    "a wrong digest of a form's file": (
        lambda c: post_form(c, file_part(MP3), headers={"Repr-Digest": digest(b"else")}), 422, "digest_mismatch",
    ),
    "a digest that is none": (lambda c: post_raw(c, MP3, **{"Repr-Digest": "sha-256=:x:"}), 400, "invalid_digest"),
    # Forms (Promise 47)
    "no boundary": (
        lambda c: c.post(UPLOADS, form(file_part()), content_type="multipart/form-data"), 400, "malformed_body",
    ),
    "a broken form": (
        lambda c: c.post(UPLOADS, form(file_part())[:-9], content_type=form_type()), 400, "malformed_body",
    ),
    "a form without a file": (lambda c: post_form(c, field("workspace", "x")), 400, "invalid"),
    "an empty form": (lambda c: post_form(c), 400, "invalid"),
    "two files": (lambda c: post_form(c, file_part(), file_part(filename="two.mp3")), 400, "invalid"),
    "10,000 parts": (lambda c: post_form(c, *[field("a", "b")] * 10_000, file_part()), 400, "malformed_body"),
    "10,000 parts behind": (lambda c: post_form(c, file_part(), *[field("a", "b")] * 10_000), 400, "malformed_body"),
    "a huge field": (lambda c: post_form(c, field("note", b"x" * 100_000), file_part()), 413, "field_too_large"),
    "a huge field behind": (lambda c: post_form(c, file_part(), field("note", b"x" * 100_000)), 413, "field_too_large"),
    "the workspace behind the file": (
        lambda c: post_form(c, file_part(), field("workspace", "x")), 400, "field_after_file",
    ),
    "JSON": (lambda c: c.post(UPLOADS, {"file": "x"}, format="json"), 400, "filename_missing"),
    "a form in a URL's encoding": (
        lambda c: c.post(UPLOADS, "file=x", content_type="application/x-www-form-urlencoded"), 400, "filename_missing",
    ),
    "an unknown multipart type": (
        lambda c: c.post(UPLOADS, form(file_part()), content_type=f"multipart/mixed; boundary={BOUNDARY}"),
        400, "filename_missing",
    ),
    # Pictures
    "a picture of 10,000 x 10,000": (
        lambda c: post_form(c, file_part(make_png_bomb(), "t.png", "thumbnail"), file_part()), 422, "image_too_large",
    ),
    "the same behind the file": (
        lambda c: post_form(c, file_part(), file_part(make_png_bomb(), "t.png", "thumbnail")), 422, "image_too_large",
    ),
    "a picture that is none": (
        lambda c: post_form(c, file_part(b"x" * 99, "t.png", "thumbnail"), file_part()), 415, "unsupported_image",
    ),
    "half a picture behind the file": (
        lambda c: post_form(c, file_part(), file_part(make_png()[:80], "t.png", "thumbnail")), 422, "image_unreadable",
    ),
    "a picture of 11 MiB": (
        lambda c: post_form(c, file_part(b"x" * (11 << 20), "t.png", "thumbnail"), file_part()), 413, "field_too_large",
    ),
    # Workspaces
    "an unknown workspace": (lambda c: post_form(c, field("workspace", "nowhere"), file_part()), 404, "not_found"),
    "a workspace with NUL": (lambda c: post_form(c, field("workspace", "a\0b"), file_part()), 404, "not_found"),
    "a workspace that is no text": (lambda c: post_form(c, field("workspace", b"\xff"), file_part()), 404, "not_found"),
    "an unknown workspace of a raw body": (
        lambda c: post_raw(c, MP3, path=f"{UPLOADS}?workspace=nowhere"), 404, "not_found",
    ),
    # Keys
    "a key that is none": (lambda c: post_raw(c, MP3, **{"Idempotency-Key": "é"}), 400, "idempotency_key_invalid"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_has_its_code_and_leaves_nothing(what: str, client: Any, audio_root: Path) -> None:
    """Promise 41, Promise 47. With an Idempotency-Key as without, and a key is free again."""
    send, status, code = REFUSED[what]
    for key in ("", "the-key"):
        if key and "key" not in what:
            client.credentials(HTTP_IDEMPOTENCY_KEY=key)
        answer = send(client)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
        assert answer["Content-Type"] == "application/problem+json"
        assert what_is_there(audio_root) == {}


def test_another_workspace_is_not_found_and_a_viewer_may_not(client: Any, user: Any, audio_root: Path) -> None:
    """Promise 38. The first does not tell whether there is one."""
    strange, watched = WorkspaceFactory(), WorkspaceFactory()
    MembershipFactory(user=user, workspace=watched, role=Membership.Role.VIEWER)
    for workspace, status, code in ((strange, 404, "not_found"), (watched, 403, "permission_denied")):
        for ref in (workspace.slug, str(workspace.pk)):
            for answer in (
                post_form(client, field("workspace", ref), file_part()),
                post_raw(client, MP3, path=f"{UPLOADS}?workspace={ref}"),
            ):
                assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert what_is_there(audio_root) == {}


@pytest.mark.parametrize("expired", [True, False])
def test_a_token_that_expired_or_is_unknown_is_a_401(expired: bool, user: Any, audio_root: Path) -> None:
    _, secret = create_token(user, name="t", expires_in=timedelta(days=1))
    if expired:
        ApiToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    else:
        ApiToken.objects.all().delete()
    answer = post_form(Client(), file_part(), headers={"Authorization": f"Bearer {secret}"})
    expected = "token_expired" if expired else "authentication_failed"
    assert (answer.status_code, answer.json()["code"]) == (401, expected)
    assert what_is_there(audio_root) == {}


def test_nobody_may_upload_without_signing_in(audio_root: Path) -> None:
    answer = post_form(Client(), file_part())
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert what_is_there(audio_root) == {}


LIMITS = {
    "max_storage_bytes": ("quota_exceeded", len(MP3) - 1),
    "max_file_size": ("file_too_large", len(MP3) - 1),
    "max_file_count": ("quota_exceeded", 0),
    "max_monthly_uploads": ("quota_exceeded", 0),
    "max_monthly_upload_bytes": ("quota_exceeded", len(MP3) - 1),
}


@pytest.mark.parametrize("door", ["form", "raw", "thumbnail behind"])
@pytest.mark.parametrize("limit", LIMITS)
def test_each_limit_refuses_by_its_name_and_keeps_nothing(
    limit: str, door: str, client: Any, user: Any, audio_root: Path
) -> None:
    """Promise 27. One byte or one file too many."""
    code, maximum = LIMITS[limit]
    quota = StorageQuotaFactory(workspace=personal_workspace(user), **{limit: maximum})
    send = {
        "form": lambda: post_form(client, file_part(MP3)),
        "raw": lambda: post_raw(client, MP3),
        "thumbnail behind": lambda: post_form(client, file_part(MP3), file_part(make_png(), "t.png", "thumbnail")),
    }[door]
    answer = send()
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["limit"], problem["maximum"]) == (413, code, limit, maximum)
    assert what_is_there(audio_root) == {}
    # A thumbnail behind the file is reserved with it until its size is known.
    slack = 4096 if door == "thumbnail behind" and maximum else 0
    StorageQuota.objects.filter(pk=quota.pk).update(**{limit: maximum + 1 + slack})
    assert send().status_code == 201


FORGED = {
    "id": "11111111-1111-4111-8111-111111111111", "status": "completed", "storage_path": "/etc/passwd",
    "storage_provider": "default", "storage_url": "file:///etc/passwd", "checksum_sha256": "0" * 64,
    "checksum_md5": "0" * 32, "file_size": "1", "owner": "1", "owner_id": "1", "uploaded_at": "2001-01-01T00:00:00Z",
    "original_filename": "../x.mp3", "metadata": '{"a":1}', "legal_hold": "true", "mime_type": "text/html",
    "thumbnail_path": "../../x",
}  # fmt: skip


def test_forged_fields_of_a_form_change_nothing(client: Any, user: Any) -> None:
    """Promise 40. Nor does what stands in the query."""
    fields = [field(name, value) for name, value in FORGED.items()]
    path = f"{UPLOADS}?storage_path=/etc/passwd&status=completed&owner=1"
    answer = post_form(client, *fields, file_part(MP3), path=path)
    assert answer.status_code == 201, answer.content
    upload = AudioUpload.objects.get()
    assert (str(upload.pk), upload.owner) != (FORGED["id"], None) and upload.owner == user
    assert upload.storage_path == f"audio/{upload.pk}/audio.mp3"
    assert upload.checksum_sha256 == hashlib.sha256(MP3).hexdigest()
    assert (upload.status, upload.file_size, upload.mime_type) == ("uploaded", len(MP3), "audio/mpeg")
    assert (upload.storage_provider, upload.thumbnail_path, upload.metadata) == ("local", "", {})
    assert (upload.original_filename, upload.legal_hold) == ("one.mp3", False)


def test_forged_members_of_json_change_nothing(client: Any) -> None:
    """Promise 40. Promise 39: the path is ours. Only the name can be changed."""
    pk = post_raw(client, MP3).json()["id"]
    before = AudioUpload.objects.values().get()
    forged = {name: value for name, value in FORGED.items() if name != "original_filename"}
    answer = client.patch(f"{UPLOADS}{pk}/", {**forged, "workspace": "x", "file_size": 1}, format="json")
    assert answer.status_code == 200
    assert AudioUpload.objects.values().get() == before


@pytest.mark.parametrize("extension", ["mp3", "wav", "flac", "ogg", "opus", "m4a", "aac", "aiff", "wma", "webm"])
def test_no_format_passes_for_another(extension: str, client: Any, audio_root: Path) -> None:
    """Promise 41. The signature is held against the extension on arrival."""
    alike = {"ogg": {"oga", "opus"}, "opus": {"ogg", "oga"}}.get(extension, set())
    for other in {"mp3", "wav", "flac", "ogg", "opus", "m4a", "aac", "aiff", "wma", "webm"} - {extension} - alike:
        answer = post_raw(client, audio_bytes(extension), f"a.{other}")
        assert (answer.status_code, answer.json()["code"]) == (415, "content_mismatch"), other
    assert what_is_there(audio_root) == {}


# By session, as a browser's form does


def signed_in(user: Any) -> tuple[Client, str]:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user)
    browser.get("/upload/")
    return browser, browser.cookies["csrftoken"].value


@pytest.mark.parametrize("path", [UPLOADS, "/upload/"])
def test_a_session_needs_its_csrf_token_in_front_of_the_file(path: str, user: Any, audio_root: Path) -> None:
    browser, token = signed_in(user)
    for parts, headers in (
        ([file_part()], {}),
        ([field("csrfmiddlewaretoken", "x" * 64), file_part()], {}),
        ([field("csrfmiddlewaretoken", ""), file_part()], {}),
        ([file_part(), field("csrfmiddlewaretoken", token)], {}),
        ([file_part()], {"X-CSRFToken": "x" * 64}),
        ([field("csrfmiddlewaretoken", token), file_part()], {"Origin": "https://evil.example"}),
    ):
        answer = post_form(browser, *parts, path=path, headers={"Accept": "application/json", **headers})
        assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")
    assert what_is_there(audio_root) == {}
    in_front = post_form(browser, field("csrfmiddlewaretoken", token), file_part(), path=path)
    as_header = post_form(browser, file_part(), path=path, headers={"X-CSRFToken": token})
    assert in_front.status_code == as_header.status_code == (201 if path == UPLOADS else 302)
    assert AudioUpload.objects.count() == 2


def test_a_raw_body_by_session_needs_the_token_as_a_header(user: Any, audio_root: Path) -> None:
    browser, token = signed_in(user)
    assert post_raw(browser, MP3).json()["code"] == "csrf_failed"
    assert what_is_there(audio_root) == {}
    assert post_raw(browser, MP3, **{"X-CSRFToken": token}).status_code == 201


def test_the_page_says_what_is_wrong_and_keeps_nothing(user: Any, audio_root: Path) -> None:
    browser, token = signed_in(user)
    answer = post_form(browser, field("csrfmiddlewaretoken", token), file_part(b"text" * 99), path="/upload/")
    assert answer.status_code == 415
    assert "The content is not what the file&#x27;s name says" in answer.content.decode()
    assert "<form" in answer.content.decode()
    assert what_is_there(audio_root) == {}


def test_the_first_200_bytes_of_an_mp3_never_become_a_completed_file(client: Any) -> None:
    """Promise 41. With less than a frame it is refused at once; what holds one frame fails with its reason."""
    for data in (MP3[:200], make_mp3(seconds=60)[:200], make_mp3(rate=8000)[:200]):
        answer = post_raw(client, data)
        if answer.status_code == 201:
            process_upload(answer.json()["id"])
            upload = AudioUpload.objects.get()
            assert (upload.status, bool(upload.error_code)) == ("failed", True), upload.error_code
            upload.delete()
        else:
            assert (answer.status_code, answer.json()["code"]) == (422, "audio_too_short")
