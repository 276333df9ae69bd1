"""A request of tus that is refused leaves the upload as it was."""

import hashlib

import pytest

from quotas.models import QuotaReservation
from tests.audio import make_mp3
from tests.uploads.tus import Tus, b64, code_of, file_of, session_at
from uploads.intake.sessions.writing import writing
from uploads.models import UploadSession

pytestmark = pytest.mark.django_db(transaction=True)

MP3 = make_mp3()
SIZE = len(MP3)
HALF = SIZE // 2
SHA256 = hashlib.sha256(MP3).digest()
WRONG = f"sha256 {b64(bytes(32))}"


def right(data: bytes) -> str:
    return f"sha256 {b64(hashlib.sha256(data).digest())}"


@pytest.fixture
def tus() -> Tus:
    return Tus()


@pytest.fixture
def address(tus: Tus) -> str:
    """An upload of half a file, whose size is not declared yet."""
    address = str(tus.create(upload_defer_length="1")["Location"])
    assert tus.patch(address, 0, MP3[:HALF]).status_code == 204
    return address


def told(address: str) -> tuple[str, int | None, str, int]:
    session = session_at(address)
    return session.state, session.size_bytes, session.sha256, session.received_bytes


UNCHANGED = (UploadSession.State.OPEN, None, "", HALF)


@pytest.mark.parametrize(
    ("offset", "length", "headers", "expected"),
    [
        (HALF + 1, SIZE, {}, 409),
        (0, 0, {}, 409),
        (HALF, HALF + 1, {}, 413),
        (HALF, 0, {}, 413),
        (HALF, HALF - 1, {}, 413),
        (HALF, SIZE, {"upload_checksum": WRONG}, 460),
        (HALF, SIZE, {"upload_offset": "x"}, 400),
    ],
)
def test_what_a_refused_request_tells_of_the_file_is_not_kept(
    tus: Tus, address: str, offset: int, length: int, headers: dict[str, str], expected: int
) -> None:
    headers = {"upload_length": str(length), "repr_digest": f"sha-256=:{b64(bytes(32))}:", **headers}
    answer = tus.ask(
        "PATCH",
        address,
        MP3[HALF:],
        **{"upload_offset": str(offset), "content_type": "application/offset+octet-stream", **headers},
    )
    assert answer.status_code == expected
    assert told(address) == UNCHANGED
    assert QuotaReservation.objects.get().bytes == HALF
    last = tus.patch(address, HALF, MP3[HALF:], upload_length=str(SIZE), repr_digest=f"sha-256=:{b64(SHA256)}:")
    assert last.status_code == 204
    assert file_of(last).file_size == SIZE


def test_a_request_that_finds_another_writer_tells_nothing(
    tus: Tus, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uploads.intake.sessions.writing.LOOK_SECONDS", 0.01)
    with writing(session_at(address)) as writer:
        monkeypatch.setattr("uploads.intake.sessions.writing.time.sleep", lambda _: writer.extend())
        answer = tus.patch(address, HALF, MP3[HALF:], upload_length=str(SIZE), repr_digest=f"sha-256=:{b64(SHA256)}:")
    assert answer.status_code == 423
    assert told(address) == UNCHANGED


def test_a_sha256_that_contradicts_an_earlier_one_declares_no_length(tus: Tus, address: str) -> None:
    UploadSession.objects.update(sha256=SHA256.hex())
    answer = tus.patch(address, HALF, MP3[HALF:], upload_length=str(SIZE), repr_digest=f"sha-256=:{b64(bytes(32))}:")
    assert answer.status_code == 400
    assert told(address) == (UploadSession.State.OPEN, None, SHA256.hex(), HALF)


def test_the_last_piece_may_bring_its_checksum_the_length_and_the_sha256(tus: Tus, address: str) -> None:
    answer = tus.patch(
        address,
        HALF,
        MP3[HALF:],
        upload_length=str(SIZE),
        upload_checksum=right(MP3[HALF:]),
        repr_digest=f"sha-256=:{b64(SHA256)}:",
    )
    assert answer.status_code == 204
    assert file_of(answer).checksum_sha256 == SHA256.hex()
    assert not QuotaReservation.objects.exists()


def test_a_right_piece_of_a_wrong_file_ends_it(tus: Tus, address: str) -> None:
    answer = tus.patch(
        address,
        HALF,
        MP3[HALF:],
        upload_length=str(SIZE),
        upload_checksum=right(MP3[HALF:]),
        repr_digest=f"sha-256=:{b64(bytes(32))}:",
    )
    assert code_of(answer) == (422, "digest_mismatch")
