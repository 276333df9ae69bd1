"""A file in numbered chunks: any order, in parallel, twice."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from objectstore import get_storage
from objectstore.local.parts import LocalParts
from quotas.models import Membership, QuotaReservation, StorageQuota
from quotas.workspaces import personal_workspace
from tests.audio import make_wav
from tests.factories import MembershipFactory, StorageQuotaFactory, UserFactory, client_for
from tests.uploads.sending import files_under
from tests.uploads.tus import b64, code_of, token_client
from uploads.intake.http.bodies import RequestBody
from uploads.models import AudioUpload, UploadPart, UploadSession

pytestmark = pytest.mark.django_db(transaction=True)

CHUNKED = "/api/v1/chunked-uploads/"
WAV = make_wav(seconds=2)
SIZE = len(WAV)
CHUNK = SIZE // 4 + 1
PIECES = [WAV[start : start + CHUNK] for start in range(0, SIZE, CHUNK)]


class Chunks:
    """One upload of WAV, by a user's client."""

    def __init__(self, user: Any = None, **asked: Any) -> None:
        self.user = user or UserFactory()
        self.client = client_for(self.user)
        answer = self.begin(**asked)
        assert answer.status_code == 201, answer.content
        self.begun = answer.json()
        self.path = f"{CHUNKED}{self.begun['id']}/"
        assert answer["Location"] == f"http://testserver{self.path}"

    def begin(self, **asked: Any) -> Any:
        wanted = {"filename": "one.wav", "file_size": SIZE, "chunk_size": CHUNK, **asked}
        return self.client.post(CHUNKED, wanted, format="json")

    def put(self, index: int, data: bytes | None = None, *, client: Any = None, **headers: str) -> Any:
        return (client or self.client).generic(
            "PUT",
            f"{self.path}chunks/{index}/",
            PIECES[index] if data is None else data,
            content_type="application/octet-stream",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )

    def state(self) -> Any:
        return self.client.get(self.path).json()


@pytest.fixture
def chunks() -> Chunks:
    return Chunks()


def read(upload_id: str) -> bytes:
    upload = AudioUpload.objects.get(pk=upload_id)
    with get_storage(upload.storage_provider).open_range(upload.storage_path) as file:
        return file.read()


def assert_nothing_reserved() -> None:
    assert not QuotaReservation.objects.exists()
    assert not StorageQuota.objects.exclude(reserved_bytes=0, reserved_files=0).exists()


def test_a_file_begins_with_what_the_client_must_know(chunks: Chunks) -> None:
    assert len(PIECES) == 4
    begun = chunks.begun
    assert (begun["total_chunks"], begun["chunk_size"], begun["status"]) == (4, CHUNK, "initiated")
    assert (begun["chunks"], begun["received"], begun["progress"], begun["upload"] is not None) == ([], 0, 0.0, True)
    assert QuotaReservation.objects.get().bytes == SIZE


def test_chunks_are_five_mebibytes_where_nobody_asks() -> None:
    begun = client_for(UserFactory()).post(CHUNKED, {"filename": "a.wav", "file_size": 11 * 1024**2}, format="json")
    assert (begun.json()["chunk_size"], begun.json()["total_chunks"]) == (5 * 1024**2, 3)


def test_chunks_come_in_any_order_and_the_last_one_makes_the_file(chunks: Chunks, audio_root: Path) -> None:
    received = 0
    for count, index in enumerate((2, 0, 3, 1), start=1):
        answer = chunks.put(index)
        assert answer.status_code == 200
        told = answer.json()
        received += len(PIECES[index])
        assert (told["chunk_index"], told["completed"], told["total"]) == (index, count, 4)
        assert told["progress"] == count / 4
        assert ("upload" in told) == (count == 4)
        if count == 2:
            state = chunks.state()
            assert (state["status"], state["chunks"], state["received"]) == ("receiving", [0, 2], received)
            assert state["progress"] == received / SIZE
    assert read(told["upload"]["id"]) == WAV
    assert told["upload"]["original_filename"] == "one.wav"
    state = chunks.state()
    assert (state["status"], state["received"], state["progress"]) == ("completed", SIZE, 1.0)
    assert state["upload"] == told["upload"]["id"]
    assert files_under(audio_root) == [AudioUpload.objects.get().storage_path]
    assert_nothing_reserved()


def test_the_same_chunk_again_changes_nothing(chunks: Chunks) -> None:
    chunks.put(0)
    again = chunks.put(0, bytes(len(PIECES[0])))
    assert (again.status_code, again.json()["completed"]) == (200, 1)
    for index in (1, 2, 3):
        last = chunks.put(index).json()
    assert read(last["upload"]["id"]) == WAV
    late = chunks.put(1)
    assert (late.status_code, late.json()["upload"]["id"]) == (200, last["upload"]["id"])
    assert AudioUpload.objects.count() == 1


def test_all_chunks_at_once_make_one_file(chunks: Chunks) -> None:
    """Promise 19. Each chunk is sent twice, by eight threads."""

    def send(index: int) -> Any:
        try:
            answer = chunks.put(index, client=client_for(chunks.user))
            return answer.status_code, answer.json()
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(send, [0, 1, 2, 3, 3, 2, 1, 0]))
    assert {status for status, _ in answers} <= {200, 409}
    assert {told["code"] for status, told in answers if status == 409} <= {"chunk_busy"}
    state = chunks.state()
    assert (state["status"], state["received"]) == ("completed", SIZE)
    assert read(state["upload"]) == WAV
    assert AudioUpload.objects.count() == 1
    assert_nothing_reserved()


@pytest.mark.parametrize(
    ("index", "data", "headers", "expected"),
    [
        (4, b"x", {}, (404, "chunk_unknown")),
        (10**12, b"x", {}, (404, "chunk_unknown")),
        (0, PIECES[0][:-1], {}, (422, "chunk_size_wrong")),
        (0, PIECES[0] + b"x", {}, (422, "chunk_size_wrong")),
        (3, PIECES[0], {}, (422, "chunk_size_wrong")),
        (0, PIECES[0], {"content_digest": f"sha-256=:{b64(bytes(32))}:"}, (422, "digest_mismatch")),
        (0, PIECES[0], {"content_digest": f"sha-512=:{b64(bytes(64))}:"}, (422, "digest_mismatch")),
        (0, PIECES[0], {"content_digest": "sha-256=:AAAA:"}, (400, "invalid_digest")),
        (0, PIECES[0], {"content_digest": "sha-256=AAAA"}, (400, "invalid_digest")),
        (0, b"", {}, (411, "length_required")),
    ],
)
def test_a_chunk_that_is_not_what_it_should_be_is_refused(
    chunks: Chunks, index: int, data: bytes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    assert code_of(chunks.put(index, data, **headers)) == expected
    assert (chunks.state()["chunks"], chunks.state()["received"]) == ([], 0)


def digest_of(data: bytes, *algorithms: str) -> str:
    return ", ".join(f"{name}=:{b64(hashlib.new(name.replace('-', ''), data).digest())}:" for name in algorithms)


@pytest.mark.parametrize("wrong", ["sha-256", "sha-512"])
def test_every_digest_of_a_chunk_must_be_right(chunks: Chunks, wrong: str) -> None:
    right = "sha-512" if wrong == "sha-256" else "sha-256"
    both = f"{digest_of(PIECES[1], right)}, {digest_of(b'', wrong)}"
    assert code_of(chunks.put(1, content_digest=both)) == (422, "digest_mismatch")
    assert chunks.state()["chunks"] == []
    assert chunks.put(1, content_digest=digest_of(PIECES[1], "sha-256", "sha-512")).status_code == 200


def test_a_chunk_that_is_sent_again_must_have_its_digest(chunks: Chunks) -> None:
    """While the upload is open, and when it is a file."""
    chunks.put(1)
    for expected in (1, 4):
        wrong = chunks.put(1, content_digest=digest_of(b"", "sha-256"))
        assert code_of(wrong) == (422, "digest_mismatch")
        again = chunks.put(1, content_digest=digest_of(PIECES[1], "sha-256"))
        assert (again.status_code, again.json()["completed"]) == (200, expected)
        for index in (0, 2, 3):
            chunks.put(index)
    assert read(again.json()["upload"]["id"]) == WAV


@pytest.mark.parametrize("is_completed", [False, True])
def test_a_chunk_that_comes_after_the_end_leaves_no_row(
    chunks: Chunks, monkeypatch: pytest.MonkeyPatch, *, is_completed: bool
) -> None:
    """The upload ends, or becomes a file, while the body of the chunk arrives."""
    if is_completed:
        for index in (0, 1, 2):
            chunks.put(index)
    read_body = RequestBody.readinto

    def end_meanwhile(body: RequestBody, buffer: memoryview) -> int:
        monkeypatch.setattr(RequestBody, "readinto", read_body)
        if is_completed:
            assert chunks.put(3).status_code == 200
        else:
            assert chunks.client.delete(chunks.path).status_code == 204
        return read_body(body, buffer)

    monkeypatch.setattr(RequestBody, "readinto", end_meanwhile)
    late = chunks.put(3, client=client_for(chunks.user))
    if is_completed:
        assert (late.status_code, "upload" in late.json()) == (200, True)
    else:
        assert code_of(late) == (410, "upload_ended")
    assert not UploadPart.objects.exists()


def test_a_claim_goes_with_an_upload_that_ends_while_the_storage_writes(
    chunks: Chunks, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = LocalParts.write

    def end_meanwhile(*args: Any, **kwargs: Any) -> Any:
        tag = write(*args, **kwargs)
        # The row is marked alone: the claim is not cleaned up by anybody else.
        UploadSession.objects.update(state=UploadSession.State.ENDED, error_code="upload_terminated")
        return tag

    monkeypatch.setattr(LocalParts, "write", end_meanwhile)
    assert code_of(chunks.put(0)) == (410, "upload_ended")
    assert not UploadPart.objects.exists()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_chunk_may_bring_its_digest(chunks: Chunks, algorithm: str) -> None:
    digest = b64(hashlib.new(algorithm, PIECES[1]).digest())
    name = algorithm.replace("sha", "sha-")
    assert chunks.put(1, content_digest=f"{name}=:{digest}:, unknown=:AAAA:").status_code == 200


def test_the_whole_files_sha256_is_checked_at_the_end(audio_root: Path) -> None:
    good, bad = Chunks(sha256=hashlib.sha256(WAV).hexdigest()), Chunks(sha256="0" * 64)
    for index in range(3):
        assert good.put(index).status_code == bad.put(index).status_code == 200
    assert good.put(3).json()["upload"]["checksum_sha256"] == hashlib.sha256(WAV).hexdigest()
    assert code_of(bad.put(3)) == (422, "digest_mismatch")
    assert bad.client.get(bad.path).status_code == bad.put(3).status_code == 410
    assert len(files_under(audio_root)) == 1
    assert_nothing_reserved()


def test_no_audio_is_refused_at_the_end_and_released(chunks: Chunks, audio_root: Path) -> None:
    for index in (3, 2, 1):
        chunks.put(index)
    assert code_of(chunks.put(0, b"MZ" + bytes(len(PIECES[0]) - 2))) == (415, "content_mismatch")
    assert chunks.put(0).status_code == 410
    assert files_under(audio_root) == []
    assert_nothing_reserved()


def test_an_upload_that_was_given_up_is_over(chunks: Chunks, audio_root: Path) -> None:
    chunks.put(0)
    assert chunks.client.delete(chunks.path).status_code == 204
    assert files_under(audio_root) == []
    assert_nothing_reserved()
    for answer in (chunks.client.get(chunks.path), chunks.put(1), chunks.client.delete(chunks.path)):
        assert code_of(answer) == (410, "upload_ended")


def test_a_finished_upload_is_not_given_up(chunks: Chunks) -> None:
    for index in range(4):
        chunks.put(index)
    assert code_of(chunks.client.delete(chunks.path)) == (409, "upload_finished")


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"file_size": 0}, 400),
        ({"file_size": -1}, 400),
        ({"file_size": "many"}, 400),
        ({"filename": ""}, 400),
        ({"filename": "a.exe"}, 415),
        ({"chunk_size": 0}, 400),
        ({"sha256": "12"}, 400),
        ({"workspace": "nowhere"}, 404),
        ({"file_size": 2**62}, 413),
    ],
)
def test_a_file_that_cannot_be_taken_is_refused_before_a_byte(asked: dict[str, Any], status: int) -> None:
    user = UserFactory()
    StorageQuotaFactory(workspace=personal_workspace(user), max_storage_bytes=10**9)
    answer = client_for(user).post(CHUNKED, {"filename": "a.wav", "file_size": 10, **asked}, format="json")
    assert answer.status_code == status
    assert not UploadSession.objects.open().exists()
    assert_nothing_reserved()


def test_a_key_makes_one_upload(chunks: Chunks) -> None:
    """Promise 29."""
    asked = {"filename": "one.wav", "file_size": SIZE}
    first, again = (
        chunks.client.post(CHUNKED, asked, format="json", headers={"Idempotency-Key": "k"}) for _ in range(2)
    )
    assert first.json() == again.json()
    assert again["Idempotency-Replayed"] == "true"
    assert UploadSession.objects.count() == 2


def test_others_see_nothing_of_it(chunks: Chunks) -> None:
    """Promise 38."""
    colleague = MembershipFactory(workspace=personal_workspace(chunks.user)).user
    for other in (client_for(colleague), client_for(UserFactory())):
        answers = [other.get(chunks.path), other.delete(chunks.path), chunks.put(0, client=other)]
        assert [answer.status_code for answer in answers] == [404, 404, 404]


def test_a_token_or_a_session_with_its_csrf_token_may_send(chunks: Chunks) -> None:
    assert chunks.put(0, client=token_client(chunks.user)).status_code == 200
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(chunks.user)
    assert code_of(chunks.put(1, client=browser)) == (403, "csrf_failed")
    browser.cookies["csrftoken"] = token = "a" * 32
    assert chunks.put(1, client=browser, x_csrftoken=token).status_code == 200


def test_a_role_that_is_lost_half_way_ends_the_sending() -> None:
    """Promise 23."""
    user = UserFactory()
    membership = MembershipFactory(user=user, role=Membership.Role.EDITOR)
    chunks = Chunks(user, workspace=membership.workspace.slug)
    chunks.put(0)
    Membership.objects.filter(pk=membership.pk).update(role=Membership.Role.VIEWER)
    assert chunks.put(1).status_code == 403


def test_a_quota_that_is_cut_half_way_refuses_the_file(chunks: Chunks) -> None:
    """Promise 23."""
    for index in range(3):
        chunks.put(index)
    StorageQuota.objects.update(max_storage_bytes=SIZE - 1)
    assert code_of(chunks.put(3)) == (413, "quota_exceeded")
    assert chunks.put(3).status_code == 410
    assert_nothing_reserved()


def test_a_full_disk_is_a_507_and_the_upload_goes_on_when_there_is_room(chunks: Chunks, settings: Any) -> None:
    """Promise 5."""
    chunks.put(0)
    reserve, settings.DISK_RESERVE_BYTES = settings.DISK_RESERVE_BYTES, 10**18
    assert code_of(chunks.put(1)) == (507, "storage_full")
    assert chunks.state()["chunks"] == [0]
    settings.DISK_RESERVE_BYTES = reserve
    for index in (1, 2, 3):
        last = chunks.put(index)
    assert read(last.json()["upload"]["id"]) == WAV
