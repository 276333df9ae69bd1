"""tus 1.0.0 as the protocol has it: each kind of request, in each state of an upload."""

import hashlib
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from accounts.models import ApiToken
from objectstore import get_storage
from quotas.models import Membership, QuotaReservation, StorageQuota
from quotas.workspaces import personal_workspace
from tests.audio import make_mp3
from tests.factories import MembershipFactory, StorageQuotaFactory, UserFactory, WorkspaceFactory
from tests.uploads.sending import files_under
from tests.uploads.tus import MEDIA_TYPE, TUS, Tus, b64, code_of, file_of, metadata, session_at, token_client
from uploads.models import AudioUpload, Status, UploadSession

pytestmark = pytest.mark.django_db(transaction=True)

MP3 = make_mp3()
SIZE = len(MP3)
HALF = SIZE // 2
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination,concatenation"
UNKNOWN = f"{TUS}6b0c2c39-3a5e-4c0f-8d5e-6a1f0f0f7e11"


@pytest.fixture
def tus() -> Tus:
    return Tus()


def read(upload: AudioUpload) -> bytes:
    with get_storage(upload.storage_provider).open_range(upload.storage_path) as file:
        return file.read()


def assert_nothing_reserved() -> None:
    assert not QuotaReservation.objects.exists()
    assert not StorageQuota.objects.exclude(reserved_bytes=0, reserved_files=0).exists()


def sha1(data: bytes) -> str:
    return f"sha1 {b64(hashlib.sha1(data, usedforsecurity=False).digest())}"


# The version


@pytest.mark.parametrize("version", ["", "0.2.2", "1.0", "2.0.0"])
@pytest.mark.parametrize("method", ["POST", "PATCH", "HEAD", "DELETE"])
def test_another_version_is_a_412_before_anything_is_looked_at(tus: Tus, method: str, version: str) -> None:
    address = tus.begin(SIZE)
    answer = tus.ask(method, TUS if method == "POST" else address, MP3, tus_resumable=version)
    assert answer.status_code == 412
    assert (answer["Tus-Version"], answer["Tus-Resumable"]) == ("1.0.0", "1.0.0")
    assert UploadSession.objects.count() == 1
    assert tus.offset(address) == 0


def test_a_stranger_with_another_version_hears_of_the_version_first() -> None:
    assert Client().post(TUS).status_code == 412


@pytest.mark.parametrize("version", ["", "1.0.0", "7"])
def test_options_tells_what_is_spoken_here_to_anybody(version: str) -> None:
    address = f"{TUS}6b0c2c39-3a5e-4c0f-8d5e-6a1f0f0f7e11"
    for path in (TUS, address):
        answer = Tus(client=Client()).ask("OPTIONS", path, tus_resumable=version)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer["Tus-Version"] == answer["Tus-Resumable"] == "1.0.0"
        assert answer["Tus-Extension"] == EXTENSIONS
        assert answer["Tus-Checksum-Algorithm"] == "sha1,md5,sha256"
        assert int(answer["Tus-Max-Size"]) >= 5 * 1024**4


# Creation


def test_an_upload_is_created_and_reserved(tus: Tus) -> None:
    answer = tus.create(upload_length=str(SIZE))
    assert (answer.status_code, answer.content) == (201, b"")
    assert answer["Location"].startswith(f"http://testserver{TUS}")
    assert "Upload-Offset" not in answer
    assert answer["Cache-Control"] == "no-store"
    session = session_at(answer["Location"])
    assert parsedate_to_datetime(answer["Upload-Expires"]) == session.expires_at.replace(microsecond=0)
    assert QuotaReservation.objects.get().bytes == SIZE
    assert session.upload is not None
    assert session.upload.status == Status.RECEIVING


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"upload_length": "10", "upload_defer_length": "1"},
        {"upload_defer_length": "2"},
        {"upload_defer_length": "0"},
        {"upload_length": "-1"},
        {"upload_length": "ten"},
        {"upload_length": "1" * 19 + "x"},
    ],
)
def test_a_length_that_cannot_be_read_is_a_400(tus: Tus, headers: dict[str, str]) -> None:
    assert code_of(tus.create(**headers)) == (400, "invalid_upload_length")
    assert not UploadSession.objects.exists()


@pytest.mark.parametrize("length", ["Tus-Max-Size", "1" * 19, str(2**63), "9" * 5000])
def test_a_length_that_no_file_has_is_a_413(tus: Tus, length: str) -> None:
    if length == "Tus-Max-Size":
        length = tus.ask("OPTIONS")[length]
    assert code_of(tus.create(upload_length=length)) == (413, "file_too_large")
    assert not UploadSession.objects.exists()
    address = tus.create(upload_defer_length="1")["Location"]
    assert code_of(tus.patch(address, 0, MP3, upload_length=length)) == (413, "file_too_large")
    assert tus.offset(address) == 0


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", (400, "filename_missing")),
        (metadata(filename=""), (400, "filename_missing")),
        (metadata(filename="letter.pdf"), (415, "unsupported_format")),
        ("filename ???", (400, "invalid_metadata")),
        (f"{metadata(filename='a.mp3')},{metadata(filename='b.mp3')}", (400, "invalid_metadata")),
        (f"filename {b64(bytes([255, 254]))}", (400, "invalid_metadata")),
        (f"filename {'A' * 8200}", (400, "invalid_metadata")),
        (metadata(filename="a.mp3", sha256="12"), (400, "invalid")),
    ],
)
def test_metadata_that_cannot_be_used_is_refused(tus: Tus, header: str, expected: tuple[int, str]) -> None:
    assert code_of(tus.create(upload_length="10", upload_metadata=header)) == expected
    assert not UploadSession.objects.exists()
    assert_nothing_reserved()


def test_a_name_cannot_break_a_header_or_leave_its_folder(tus: Tus) -> None:
    """Promises 25, 39, 43."""
    given = metadata(filename="../../a\r\nSet-Cookie: x=1\r\n\r\n.mp3", note="\r\nX: y")
    address = tus.begin(SIZE, upload_metadata=given)
    answer = tus.head(address)
    assert answer["Upload-Metadata"] == given
    assert not answer.cookies
    upload = session_at(address).upload
    assert upload is not None
    assert upload.original_filename == "aSet-Cookie: x=1.mp3"


@pytest.mark.parametrize("key", ["filename", "name"])
def test_both_usual_keys_name_the_file(tus: Tus, key: str) -> None:
    upload = session_at(tus.begin(SIZE, upload_metadata=metadata(**{key: "Übung.mp3"}))).upload
    assert upload is not None
    assert upload.original_filename == "Übung.mp3"


def test_what_the_client_says_of_the_type_is_not_believed(tus: Tus) -> None:
    answer = tus.create(MP3, upload_length=str(SIZE), upload_metadata=metadata(filename="a.mp3", filetype="text/html"))
    assert file_of(answer).mime_type == "audio/mpeg"


@pytest.mark.parametrize("limit", [{"max_storage_bytes": 9}, {"max_file_count": 0}, {"max_file_size": 9}])
def test_what_the_quota_does_not_allow_is_a_413(tus: Tus, limit: dict[str, int]) -> None:
    StorageQuotaFactory(workspace=personal_workspace(tus.user), **limit)
    answer = tus.create(upload_length="10")
    assert answer.status_code == 413
    assert answer.json()["code"] in ("quota_exceeded", "file_too_large")
    assert not UploadSession.objects.exists()
    assert_nothing_reserved()


def test_an_empty_file_is_refused_and_its_address_is_over(tus: Tus) -> None:
    answer = tus.create(upload_length="0")
    assert code_of(answer) == (400, "empty_file")
    assert tus.head(answer["Location"]).status_code == 410
    assert_nothing_reserved()
    assert not AudioUpload.objects.exists()


def test_an_empty_partial_upload_is_complete_at_once(tus: Tus) -> None:
    answer = tus.head(tus.partial(b""))
    assert (answer["Upload-Offset"], answer["Upload-Length"], answer["Upload-Concat"]) == ("0", "0", "partial")


def test_the_body_of_a_creation_is_the_beginning_of_the_file(tus: Tus) -> None:
    answer = tus.create(MP3[:HALF], upload_length=str(SIZE))
    assert (answer.status_code, answer["Upload-Offset"]) == (201, str(HALF))
    assert "Content-Location" not in answer
    assert tus.patch(answer["Location"], HALF, MP3[HALF:]).status_code == 204


def test_the_body_of_a_creation_may_be_the_whole_file(tus: Tus) -> None:
    answer = tus.create(MP3, upload_length=str(SIZE))
    assert (answer.status_code, answer["Upload-Offset"]) == (201, str(SIZE))
    assert "Upload-Expires" not in answer
    assert read(file_of(answer)) == MP3


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [(MP3, {"content_type": "audio/mpeg"}, 415), (MP3 + b"x", {}, 413), (MP3, {"upload_checksum": "crc32 AAAA"}, 400)],
)
def test_a_creation_with_a_wrong_body_makes_nothing(
    tus: Tus, data: bytes, headers: dict[str, str], status: int
) -> None:
    assert tus.create(data, upload_length=str(SIZE), **headers).status_code == status
    assert not UploadSession.objects.exists()
    assert_nothing_reserved()


def test_a_creation_whose_checksum_is_wrong_leaves_nothing(tus: Tus, audio_root: Path) -> None:
    """Promise 20."""
    answer = tus.create(MP3, upload_length=str(SIZE), upload_checksum=sha1(b"other"))
    assert code_of(answer) == (460, "checksum_mismatch")
    assert_nothing_reserved()
    assert files_under(audio_root) == []


# Workspaces


def test_the_workspace_is_named_in_the_metadata_or_the_address(tus: Tus) -> None:
    workspace = MembershipFactory(user=tus.user, role=Membership.Role.EDITOR).workspace
    by_metadata = tus.begin(SIZE, upload_metadata=metadata(filename="a.mp3", workspace=workspace.slug))
    by_query = tus.ask(
        "POST",
        f"{TUS}?workspace={workspace.pk}",
        upload_length="9",
        upload_metadata=metadata(filename="a.mp3", workspace=workspace.slug),
    )["Location"]
    assert session_at(by_metadata).workspace == session_at(by_query).workspace == workspace
    assert session_at(tus.begin(SIZE)).workspace == personal_workspace(tus.user)


def test_two_different_workspaces_are_refused(tus: Tus) -> None:
    one, other = (MembershipFactory(user=tus.user).workspace for _ in range(2))
    headers = {"upload_length": "9", "upload_metadata": metadata(filename="a.mp3", workspace=one.slug)}
    assert code_of(tus.ask("POST", f"{TUS}?workspace={other.slug}", **headers)) == (400, "invalid")


def test_nobody_adds_to_a_workspace_that_he_may_not_add_to(tus: Tus) -> None:
    """Promises 38, 60."""
    viewed = MembershipFactory(user=tus.user, role=Membership.Role.VIEWER).workspace
    for workspace, status in ((viewed, 403), (WorkspaceFactory(), 404)):
        header = metadata(filename="a.mp3", workspace=workspace.slug)
        assert tus.create(upload_length="9", upload_metadata=header).status_code == status
    assert not UploadSession.objects.exists()


def test_another_users_upload_is_a_404_also_in_the_same_workspace(tus: Tus) -> None:
    address = tus.begin(SIZE)
    colleague = MembershipFactory(workspace=personal_workspace(tus.user), role=Membership.Role.OWNER).user
    for stranger in (Tus(), Tus(colleague)):
        answers = [stranger.head(address), stranger.patch(address, 0, MP3), stranger.delete(address)]
        assert [answer.status_code for answer in answers] == [404, 404, 404]
        assert not any("Upload-Offset" in answer for answer in answers)
    assert tus.offset(address) == 0


# HEAD


def test_head_tells_what_has_arrived_and_gives_back_what_was_said(tus: Tus) -> None:
    said = f"{metadata(filename='one.mp3', filetype='audio/mpeg')},is_confidential"
    address = tus.begin(SIZE, upload_metadata=said)
    tus.patch(address, 0, MP3[:HALF])
    answer = tus.head(address)
    assert (answer.status_code, answer.content) == (200, b"")
    assert (answer["Upload-Offset"], answer["Upload-Length"]) == (str(HALF), str(SIZE))
    assert (answer["Upload-Metadata"], answer["Cache-Control"]) == (said, "no-store")
    assert isinstance(parsedate_to_datetime(answer["Upload-Expires"]), datetime)
    assert "Upload-Concat" not in answer
    assert "Upload-Defer-Length" not in answer


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
def test_an_unknown_upload_is_a_404(tus: Tus, method: str) -> None:
    answer = tus.patch(UNKNOWN, 0, b"x") if method == "PATCH" else tus.ask(method, UNKNOWN)
    assert answer.status_code == 404
    assert "Upload-Offset" not in answer
    assert answer["Tus-Resumable"] == "1.0.0"


def test_head_of_a_finished_upload_tells_the_file(tus: Tus) -> None:
    address = tus.begin(SIZE)
    file = file_of(tus.patch(address, 0, MP3))
    answer = tus.head(address)
    assert (answer["Upload-Offset"], answer["Upload-Length"]) == (str(SIZE), str(SIZE))
    assert file_of(answer) == file
    assert "Upload-Expires" not in answer


# PATCH


def test_a_file_arrives_piece_by_piece(tus: Tus, audio_root: Path) -> None:
    """Promise 18: every offset that HEAD tells is accepted next."""
    address = tus.begin(SIZE)
    offset = 0
    while offset < SIZE:
        assert tus.offset(address) == offset
        answer = tus.patch(address, offset, MP3[offset : offset + 1000])
        assert (answer.status_code, answer.content) == (204, b"")
        assert int(answer["Upload-Offset"]) == min(offset + 1000, SIZE)
        assert ("Upload-Expires" in answer) == (int(answer["Upload-Offset"]) < SIZE)
        offset = int(answer["Upload-Offset"])
    upload = file_of(answer)
    assert (upload.status, upload.file_size, read(upload)) == (Status.UPLOADED, SIZE, MP3)
    assert files_under(audio_root) == [upload.storage_path]
    assert_nothing_reserved()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"content_type": "application/octet-stream"}, 415),
        ({"content_type": ""}, 415),
        ({"upload_offset": ""}, 400),
        ({"upload_offset": "-1"}, 400),
        ({"upload_offset": "one"}, 400),
        ({"upload_length": "x"}, 400),
        ({"upload_length": "1"}, 400),
        ({"upload_checksum": "crc32 AAAA"}, 400),
        ({"upload_checksum": "sha1 ???"}, 400),
        ({"upload_checksum": "sha1 AAAA"}, 400),
        ({"upload_checksum": "sha1"}, 400),
        ({"repr_digest": "sha-256=:AAAA:"}, 400),
        ({"content_length": ""}, 411),
        ({"transfer_encoding": "chunked"}, 411),
    ],
)
def test_a_request_that_cannot_be_understood_changes_nothing(tus: Tus, headers: dict[str, str], expected: int) -> None:
    address = tus.begin(SIZE)
    said = {"content_type": MEDIA_TYPE, "upload_offset": "0", "content_length": "10", **headers}
    data = b"" if said["content_length"] == "" else MP3[:10]
    answer = tus.ask("PATCH", address, data, **said)
    assert answer.status_code == expected
    assert answer["Tus-Resumable"] == "1.0.0"
    assert tus.offset(address) == 0


@pytest.mark.parametrize("offset", [0, HALF - 1, HALF + 1, SIZE, SIZE + 1, 10**17])
def test_another_offset_is_a_409_that_tells_the_right_one(tus: Tus, offset: int) -> None:
    """Promise 19: the same bytes again are not stored twice."""
    address = tus.begin(SIZE)
    tus.patch(address, 0, MP3[:HALF])
    answer = tus.patch(address, offset, b"x")
    assert code_of(answer) == (409, "offset_mismatch")
    assert answer["Upload-Offset"] == str(HALF)
    assert tus.offset(address) == HALF


def test_more_bytes_than_were_declared_are_never_stored(tus: Tus) -> None:
    """Promise 21."""
    address = tus.begin(SIZE)
    tus.patch(address, 0, MP3[:HALF])
    assert code_of(tus.patch(address, HALF, MP3[HALF:] + b"x")) == (413, "upload_too_long")
    assert tus.offset(address) == HALF
    assert read(file_of(tus.patch(address, HALF, MP3[HALF:]))) == MP3


def test_an_empty_patch_changes_nothing(tus: Tus) -> None:
    address = tus.begin(SIZE)
    answer = tus.patch(address, 0)
    assert (answer.status_code, answer["Upload-Offset"]) == (204, "0")


def test_a_finished_upload_never_changes(tus: Tus) -> None:
    """Promise 24."""
    address = tus.begin(SIZE)
    upload = file_of(tus.patch(address, 0, MP3))
    again = tus.patch(address, SIZE)
    assert (again.status_code, file_of(again)) == (204, upload)
    assert tus.patch(address, SIZE, b"x").status_code == 413
    assert tus.patch(address, 0, MP3).status_code == 409
    assert code_of(tus.delete(address)) == (409, "upload_finished")
    assert read(upload) == MP3
    assert AudioUpload.objects.count() == 1


def test_what_is_no_audio_ends_the_upload(tus: Tus, audio_root: Path) -> None:
    address = tus.begin(200_000)
    assert code_of(tus.patch(address, 0, b"MZ" + bytes(99_998))) == (415, "content_mismatch")
    answer = tus.head(address)
    assert answer.status_code == 410
    assert "Upload-Offset" not in answer
    assert tus.patch(address, 0, b"x").status_code == tus.delete(address).status_code == 410
    assert_nothing_reserved()
    assert files_under(audio_root) == []
    assert not AudioUpload.objects.exists()


# The length, told later


def test_the_length_may_come_with_a_later_patch(tus: Tus) -> None:
    address = tus.create(upload_defer_length="1")["Location"]
    answer = tus.head(address)
    assert (answer["Upload-Defer-Length"], answer["Upload-Offset"]) == ("1", "0")
    assert "Upload-Length" not in answer
    tus.patch(address, 0, MP3[:HALF])
    assert QuotaReservation.objects.get().bytes == HALF
    answer = tus.patch(address, HALF, b"", upload_length=str(SIZE))
    assert answer.status_code == 204
    assert QuotaReservation.objects.get().bytes == SIZE
    assert tus.head(address)["Upload-Length"] == str(SIZE)
    answer = tus.patch(address, HALF, MP3[HALF:], upload_length=str(SIZE))
    assert read(file_of(answer)) == MP3
    assert_nothing_reserved()


@pytest.mark.parametrize(("length", "expected"), [(SIZE + 1, 400), (HALF - 1, 400)])
def test_a_length_is_declared_once(tus: Tus, length: int, expected: int) -> None:
    address = tus.create(upload_defer_length="1")["Location"]
    tus.patch(address, 0, MP3[:HALF], upload_length=str(SIZE))
    assert code_of(tus.patch(address, HALF, b"", upload_length=str(length))) == (expected, "size_already_declared")


def test_a_length_below_what_arrived_is_refused(tus: Tus) -> None:
    address = tus.create(upload_defer_length="1")["Location"]
    tus.patch(address, 0, MP3[:HALF])
    assert code_of(tus.patch(address, HALF, b"", upload_length=str(HALF - 1))) == (413, "upload_too_long")
    assert tus.offset(address) == HALF


def test_a_deferred_length_is_reserved_before_its_bytes_come(tus: Tus) -> None:
    StorageQuotaFactory(workspace=personal_workspace(tus.user), max_storage_bytes=HALF)
    address = tus.create(upload_defer_length="1")["Location"]
    assert tus.patch(address, 0, MP3[:HALF]).status_code == 204
    assert code_of(tus.patch(address, HALF, MP3[HALF:])) == (413, "quota_exceeded")
    assert tus.offset(address) == HALF


# Checksums


@pytest.mark.parametrize("algorithm", ["sha1", "md5", "sha256"])
def test_a_piece_counts_when_all_of_it_is_right(tus: Tus, algorithm: str) -> None:
    """Promises 18, 20."""
    address = tus.begin(SIZE)
    for data, status, offset in ((MP3[:HALF], 204, HALF), (MP3[HALF:-1] + b"x", 460, HALF), (MP3[HALF:], 204, SIZE)):
        digest = hashlib.new(algorithm, MP3[:HALF] if status == 204 and offset == HALF else MP3[HALF:]).digest()
        answer = tus.patch(address, 0 if offset == HALF and status == 204 else HALF, data,
                           upload_checksum=f"{algorithm} {b64(digest)}")  # fmt: skip
        assert answer.status_code == status
        assert tus.offset(address) == offset
    assert read(file_of(answer)) == MP3


def test_the_checksum_of_an_empty_body_is_compared(tus: Tus) -> None:
    address = tus.begin(SIZE)
    assert code_of(tus.patch(address, 0, b"", upload_checksum=sha1(MP3))) == (460, "checksum_mismatch")
    assert tus.patch(address, 0, b"", upload_checksum=sha1(b"")).status_code == 204
    assert code_of(tus.create(upload_length=str(SIZE), upload_checksum=sha1(MP3))) == (460, "checksum_mismatch")
    assert tus.create(upload_length=str(SIZE), upload_checksum=sha1(b"")).status_code == 201
    assert UploadSession.objects.count() == 2


def test_the_whole_files_sha256_is_checked_at_the_end(tus: Tus) -> None:
    sha256 = hashlib.sha256(MP3).hexdigest()
    said = metadata(filename="one.mp3", sha256=sha256.upper())
    address = tus.begin(SIZE, upload_metadata=said)
    tus.patch(address, 0, MP3[:HALF])
    assert file_of(tus.patch(address, HALF, MP3[HALF:])).checksum_sha256 == sha256


@pytest.mark.parametrize("at_once", [True, False])
def test_another_sha256_ends_the_upload(tus: Tus, audio_root: Path, *, at_once: bool) -> None:
    said = metadata(filename="one.mp3", sha256=hashlib.sha256(b"other").hexdigest())
    address = tus.begin(SIZE, upload_metadata=said)
    if not at_once:
        tus.patch(address, 0, MP3[:HALF])
    offset = 0 if at_once else HALF
    assert code_of(tus.patch(address, offset, MP3[offset:])) == (422, "digest_mismatch")
    assert tus.head(address).status_code == 410
    assert_nothing_reserved()
    assert files_under(audio_root) == []


def test_a_client_may_tell_the_sha256_with_its_last_bytes(tus: Tus) -> None:
    digest = b64(hashlib.sha256(MP3).digest())
    address = tus.begin(SIZE)
    tus.patch(address, 0, MP3[:HALF])
    answer = tus.patch(address, HALF, MP3[HALF:], repr_digest=f"sha-256=:{digest}:")
    assert file_of(answer).checksum_sha256 == hashlib.sha256(MP3).hexdigest()
    other = b64(hashlib.sha256(b"other").digest())
    address = tus.begin(SIZE)
    answer = tus.patch(address, 0, MP3, repr_digest=f"sha-256=:{other}:")
    assert code_of(answer) == (422, "digest_mismatch")
    assert tus.head(address).status_code == 410


def test_two_different_sha256_are_refused(tus: Tus) -> None:
    sha256 = hashlib.sha256(MP3)
    other = f"sha-256=:{b64(hashlib.sha256(b'other').digest())}:"
    said = metadata(filename="one.mp3", sha256=sha256.hexdigest())
    assert tus.create(upload_length=str(SIZE), upload_metadata=said, repr_digest=other).status_code == 400
    address = tus.begin(SIZE, upload_metadata=said)
    assert code_of(tus.patch(address, 0, MP3, repr_digest=other)) == (400, "invalid")
    assert tus.offset(address) == 0


# Termination


def test_a_terminated_upload_is_released_and_over(tus: Tus, audio_root: Path) -> None:
    """Promise 22."""
    address = tus.begin(SIZE)
    tus.patch(address, 0, MP3[:HALF])
    answer = tus.delete(address)
    assert (answer.status_code, answer.content) == (204, b"")
    assert_nothing_reserved()
    assert files_under(audio_root) == []
    for again in (tus.head(address), tus.patch(address, HALF, MP3[HALF:]), tus.delete(address)):
        assert again.status_code == 410
        assert "Upload-Offset" not in again


# Concatenation


def test_partial_uploads_are_joined_in_the_order_that_is_named(tus: Tus, audio_root: Path) -> None:
    """Promise 24."""
    pieces = [MP3[:100], b"", MP3[100:HALF], MP3[HALF:]]
    third, second, first, empty = (tus.partial(piece) for piece in (pieces[3], pieces[2], pieces[0], pieces[1]))
    assert not AudioUpload.objects.exists()
    answer = tus.join(first, empty, second, third)
    assert answer.status_code == 201
    assert answer["Upload-Offset"] == answer["Upload-Length"] == str(SIZE)
    upload = file_of(answer)
    assert read(upload) == MP3
    assert files_under(audio_root) == [upload.storage_path]
    assert_nothing_reserved()
    final = tus.head(answer["Location"])
    assert final["Upload-Concat"] == f"final;{first} {empty} {second} {third}"
    assert final["Upload-Offset"] == final["Upload-Length"] == str(SIZE)
    assert file_of(final) == upload
    assert tus.head(first)["Upload-Offset"] == "100"


def test_partial_uploads_need_no_name_and_reserve_no_file(tus: Tus) -> None:
    StorageQuotaFactory(workspace=personal_workspace(tus.user), max_file_count=1)
    one, two = tus.partial(MP3[:HALF]), tus.partial(MP3[HALF:])
    quota = StorageQuota.objects.get(workspace=personal_workspace(tus.user))
    assert (quota.reserved_bytes, quota.reserved_files) == (SIZE, 0)
    assert tus.join(one, two).status_code == 201


def test_a_lost_answer_to_a_concatenation_may_be_asked_for_again(tus: Tus) -> None:
    one, two = tus.partial(MP3[:HALF]), tus.partial(MP3[HALF:])
    first, second = tus.join(one, two), tus.join(one, two)
    assert first["Location"] == second["Location"]
    assert file_of(first) == file_of(second)
    assert AudioUpload.objects.count() == 1


def test_addresses_may_be_paths_or_relative(tus: Tus) -> None:
    one, two = tus.partial(MP3[:HALF]), tus.partial(MP3[HALF:])
    answer = tus.join(one.removeprefix("http://testserver"), two.rsplit("/", 1)[1])
    assert read(file_of(answer)) == MP3


def test_what_cannot_be_joined_is_refused_and_changes_nothing(tus: Tus) -> None:
    one, two, used, unfinished = (
        tus.partial(MP3[:HALF]), tus.partial(MP3[HALF:]), tus.partial(MP3),
        tus.begin(10, upload_concat="partial", upload_metadata=""),
    )  # fmt: skip
    assert tus.join(used).status_code == 201
    elsewhere = MembershipFactory(user=tus.user).workspace
    moved = tus.ask("POST", f"{TUS}?workspace={elsewhere.slug}", upload_length="0", upload_concat="partial")["Location"]
    whole = tus.begin(SIZE)
    ended = tus.partial(b"x")
    tus.delete(ended)
    before = sorted(UploadSession.objects.values_list("pk", "state", "final", "received_bytes"))
    refused = [
        (), (one, one), (one, UNKNOWN), (one, unfinished), (one, Tus().partial(b"x")), (one, used), (one, moved),
        (one, whole), (one, ended), (one, "http://testserver/api/v1/uploads/"), (one, "nothing"),
        (one, two.replace("testserver", "other.host")), (one, two.replace("http:", "ftp:")), (one, "http://[/"),
    ]  # fmt: skip
    for addresses in refused:
        assert code_of(tus.join(*addresses)) == (400, "not_concatenable"), addresses
    assert code_of(tus.join(one, two, upload_length=str(SIZE))) == (400, "not_concatenable")
    after = UploadSession.objects.of(tus.user).values_list("pk", "state", "final", "received_bytes")
    assert sorted(after) == before
    assert tus.join(one, two).status_code == 201


def test_a_final_upload_takes_no_bytes(tus: Tus) -> None:
    one = tus.partial(MP3)
    final = tus.join(one)["Location"]
    for address in (final, one):
        for offset in (0, SIZE):
            assert code_of(tus.patch(address, offset, b"x")) == (403, "final_upload")


def test_a_concatenation_that_the_quota_refuses_keeps_its_parts(tus: Tus) -> None:
    quota = StorageQuotaFactory(workspace=personal_workspace(tus.user))
    one, two = tus.partial(MP3[:HALF]), tus.partial(MP3[HALF:])
    StorageQuota.objects.filter(pk=quota.pk).update(max_file_count=0)
    assert tus.join(one, two).status_code == 413
    StorageQuota.objects.filter(pk=quota.pk).update(max_file_count=None)
    assert read(file_of(tus.join(one, two))) == MP3


def test_a_concatenation_without_a_name_or_of_no_audio_is_refused(tus: Tus) -> None:
    one = tus.partial(b"MZ" + bytes(100_000))
    assert code_of(tus.join(one, upload_metadata="")) == (400, "filename_missing")
    assert code_of(tus.join(one)) == (415, "content_mismatch")
    assert tus.head(one).status_code == 410
    assert_nothing_reserved()


# Who asks


def test_a_stranger_is_a_401() -> None:
    stranger = Tus(client=Client())
    for answer in (stranger.create(upload_length="9"), stranger.head(UNKNOWN), stranger.delete(UNKNOWN)):
        assert answer.status_code == 401
        assert answer["Tus-Resumable"] == "1.0.0"


def test_a_token_needs_nothing_else() -> None:
    user = UserFactory()
    tus = Tus(user, client=token_client(user))
    address = tus.begin(SIZE)
    assert read(file_of(tus.patch(address, 0, MP3))) == MP3


def test_a_token_that_only_reads_sends_nothing() -> None:
    user = UserFactory()
    address = Tus(user).begin(SIZE)
    tus = Tus(user, client=token_client(user, scope=ApiToken.Scope.READ))
    assert tus.head(address).status_code == 200
    for answer in (
        tus.create(upload_length="9"),
        tus.patch(address, 0, MP3),
        tus.delete(address),
        tus.ask("POST", address, x_http_method_override="DELETE"),
    ):
        assert code_of(answer) == (403, "token_read_only")


def test_a_session_needs_the_csrf_token_in_a_header() -> None:
    user = UserFactory()
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    tus = Tus(user, client=client)
    address = Tus(user).begin(SIZE)
    for answer in (
        tus.create(upload_length="9"),
        tus.patch(address, 0, MP3),
        tus.delete(address),
        tus.ask("POST", address, x_http_method_override="DELETE"),
    ):
        assert code_of(answer) == (403, "csrf_failed")
    assert tus.offset(address) == 0
    client.get("/sign-in/")
    client.cookies["csrftoken"] = token = "a" * 32
    created = tus.create(upload_length=str(SIZE), x_csrftoken=token)
    assert created.status_code == 201
    assert read(file_of(tus.patch(created["Location"], 0, MP3, x_csrftoken=token))) == MP3
    assert tus.ask("DELETE", address, x_csrftoken=token).status_code == 204


def test_a_verb_may_be_sent_as_a_post(tus: Tus) -> None:
    address = tus.begin(SIZE)
    for method, data, status in (("PATCH", MP3[:HALF], 204), ("HEAD", b"", 200), ("DELETE", b"", 204)):
        answer = tus.ask(
            "POST", address, data, x_http_method_override=method, content_type=MEDIA_TYPE, upload_offset="0"
        )
        assert answer.status_code == status, method
    assert tus.head(address).status_code == 410
    assert tus.ask("POST", TUS, x_http_method_override="OPTIONS", tus_resumable="").status_code == 204


@pytest.mark.parametrize("override", ["", "GET", "PUT", "NONSENSE"])
def test_other_verbs_are_a_405(tus: Tus, override: str) -> None:
    address = tus.begin(SIZE)
    assert tus.ask("POST", address, x_http_method_override=override).status_code == 405
    assert tus.ask("GET", address).status_code == 405
    assert tus.ask("PATCH", TUS).status_code == 405


# Browsers on other sites


def test_a_page_elsewhere_may_do_all_of_it(settings: Any, tus: Tus) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://studio.example"]
    asked = (
        "authorization,content-type,tus-resumable,upload-length,upload-offset,upload-metadata,upload-defer-length,"
        "upload-concat,upload-checksum,x-http-method-override,content-digest,repr-digest"
    )
    for method in ("POST", "PATCH", "HEAD", "DELETE"):
        answer = Client().options(
            UNKNOWN,
            headers={
                "Origin": "https://studio.example",
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": asked,
            },
        )
        assert answer.status_code == 200
        allowed = {name.strip() for name in answer["Access-Control-Allow-Headers"].split(",")}
        assert set(asked.split(",")) <= allowed
        assert method in answer["Access-Control-Allow-Methods"] or method == "HEAD"
    answer = tus.create(upload_length="9", origin="https://studio.example")
    exposed = {name.strip().lower() for name in answer["Access-Control-Expose-Headers"].split(",")}
    assert {
        "location", "content-location", "retry-after", "tus-resumable", "tus-version", "tus-extension", "tus-max-size",
        "tus-checksum-algorithm", "upload-offset", "upload-length", "upload-defer-length", "upload-metadata",
        "upload-concat", "upload-expires",
    } <= exposed  # fmt: skip


# What changes half way


def test_a_role_that_is_lost_half_way_ends_the_sending(tus: Tus) -> None:
    """Promise 23."""
    membership = MembershipFactory(user=tus.user, role=Membership.Role.EDITOR)
    said = metadata(filename="one.mp3", workspace=membership.workspace.slug)
    address = tus.begin(SIZE, upload_metadata=said)
    tus.patch(address, 0, MP3[:HALF])
    Membership.objects.filter(pk=membership.pk).update(role=Membership.Role.VIEWER)
    assert tus.patch(address, HALF, MP3[HALF:]).status_code == 403
    Membership.objects.filter(pk=membership.pk).delete()
    assert tus.patch(address, HALF, MP3[HALF:]).status_code == 404
    assert not AudioUpload.objects.exclude(status=Status.RECEIVING).exists()


def test_a_quota_that_is_cut_half_way_refuses_the_file_and_releases_it(tus: Tus, audio_root: Path) -> None:
    """Promise 23."""
    quota = StorageQuotaFactory(workspace=personal_workspace(tus.user), max_storage_bytes=SIZE)
    address = tus.begin(SIZE)
    tus.patch(address, 0, MP3[:HALF])
    StorageQuota.objects.filter(pk=quota.pk).update(max_storage_bytes=HALF)
    assert code_of(tus.patch(address, HALF, MP3[HALF:])) == (413, "quota_exceeded")
    assert tus.head(address).status_code == 410
    assert_nothing_reserved()
    assert files_under(audio_root) == []


def test_a_full_disk_is_a_507_and_the_upload_goes_on_when_there_is_room(tus: Tus, settings: Any) -> None:
    """Promise 5."""
    address = tus.begin(SIZE)
    tus.patch(address, 0, MP3[:HALF])
    reserve, settings.DISK_RESERVE_BYTES = settings.DISK_RESERVE_BYTES, 10**18
    assert code_of(tus.patch(address, HALF, MP3[HALF:])) == (507, "storage_full")
    assert tus.offset(address) == HALF
    settings.DISK_RESERVE_BYTES = reserve
    assert read(file_of(tus.patch(address, HALF, MP3[HALF:]))) == MP3
