"""Bodies as they are read: exactly what was sent, in bounded memory, whatever is wrong with them."""

import base64
import hashlib
import io
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIRequest
from hypothesis import example, given
from hypothesis import strategies as st

from audiotricks.errors import DomainError, Invalid, RequestTimeout
from tests.uploads.sending import BOUNDARY, field, file_part, form, form_type
from uploads.intake.http import bodies
from uploads.intake.http.bodies import (
    FieldAfterFile,
    FieldTooLarge,
    InvalidDigest,
    InvalidLength,
    LengthRequired,
    MalformedBody,
    TruncatedBody,
    content_length,
    filename_of_disposition,
    read_body,
    sha256_of_digest,
)

MIB = 1024 * 1024


class Trickle(io.BytesIO):
    """A stream that hands over at most so many bytes at a time, as a slow client's socket does."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self.most = most

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self.most if size is None or size < 0 else min(size, self.most))


class Endless(io.RawIOBase):
    """A beginning, and then as many bytes of filling as are asked for; counts what was taken."""

    def __init__(self, beginning: bytes) -> None:
        self.beginning = io.BytesIO(beginning)
        self.taken = 0

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None and size >= 0
        piece = self.beginning.read(size) or b"x" * size
        self.taken += len(piece)
        return piece


def request_of(stream: Any, length: object, content_type: str = "application/octet-stream", **meta: str) -> WSGIRequest:
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/",
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(length),
        "wsgi.input": stream,
        **meta,
    }
    return WSGIRequest({name: value for name, value in environ.items() if value != "None"})


def form_body(data: bytes, *, length: int | None = None, boundary: str = BOUNDARY) -> Any:
    return read_body(request_of(io.BytesIO(data), len(data) if length is None else length, form_type(boundary)))


def raw_body(data: bytes, *, length: int | None = None) -> Any:
    return read_body(request_of(io.BytesIO(data), len(data) if length is None else length))


def content_of(body: Any) -> bytes:
    return b"".join(body.chunks())


# Length


@pytest.mark.parametrize("length", [None, ""])
def test_a_body_without_a_length_is_refused(length: object) -> None:
    """Promise 46. What is reserved must be known first."""
    with pytest.raises(LengthRequired):
        read_body(request_of(io.BytesIO(b"abc"), length))


def test_a_chunked_body_is_refused_even_with_a_length() -> None:
    """Promise 46. Django would read it as empty."""
    with pytest.raises(LengthRequired):
        read_body(request_of(io.BytesIO(b"abc"), 3, HTTP_TRANSFER_ENCODING="chunked"))


@pytest.mark.parametrize("length", ["-1", "+3", " 3", "3 ", "3,3", "0x3", "1e3", "3.0", "１", "٣", "9" * 19, "x"])  # noqa: RUF001
def test_a_length_that_is_no_number_of_bytes_is_refused(length: str) -> None:
    """Promise 46. Digits of other scripts and numbers beyond every disk are none."""
    with pytest.raises(InvalidLength):
        content_length(request_of(io.BytesIO(b"abc"), length))


@pytest.mark.parametrize("sent", [b"", b"ab"])
def test_a_body_that_ends_early_is_truncated_and_never_shorter_audio(sent: bytes) -> None:
    """Promise 46. What is missing is told; nothing short is taken for whole."""
    with pytest.raises(TruncatedBody) as error:
        content_of(raw_body(sent, length=10))
    assert error.value.members == {"missing_bytes": 10 - len(sent)}


def test_a_body_longer_than_its_length_is_read_to_its_length() -> None:
    """Promise 46. What follows is no part of this request."""
    assert content_of(raw_body(b"0123456789", length=4)) == b"0123"


@pytest.mark.parametrize(
    ("fault", "error"), [(ConnectionResetError("reset"), TruncatedBody), (TimeoutError("timed out"), RequestTimeout)]
)
def test_a_connection_that_breaks_or_stalls_while_it_is_read_is_an_error(
    fault: OSError, error: type[DomainError]
) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int | None = -1) -> bytes:
            raise fault

    with pytest.raises(error):
        content_of(read_body(request_of(Broken(), 10)))


def test_little_is_asked_for_at_first_and_of_slow_clients_and_much_of_fast_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A piece comes back only when it is complete, so that a large one would look like a client that stands still."""
    now = [0.0]
    asked: list[int] = []

    class Line(io.RawIOBase):
        seconds = 0.0

        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            asked.append(size)
            now[0] += self.seconds
            return b"x" * size

    line = Line()
    monkeypatch.setattr(bodies.time, "monotonic", lambda: now[0])
    pieces: Iterator[bytes] = read_body(request_of(line, 100 * MIB)).chunks()
    for _ in range(10):
        next(pieces)
    assert (asked[0], asked[-1], max(asked)) == (16 * 1024, MIB, MIB)
    line.seconds = 5.0
    next(pieces)
    next(pieces)
    assert asked[-1] == 16 * 1024


# Names of raw bodies


@pytest.mark.parametrize(
    ("header", "filename"),
    [
        ('attachment; filename="one two.mp3"', "one two.mp3"),
        ("attachment; filename=one.mp3", "one.mp3"),
        ("attachment; filename*=UTF-8''%C3%A9.mp3", "é.mp3"),
        ('attachment; filename="é.mp3"', "é.mp3"),
        (r'attachment; filename="a\"b.mp3"', 'a"b.mp3'),
        ("attachment", ""),
        ("", ""),
        ("attachment; filename=\"e.mp3\"; filename*=utf-8''%C3%A9.mp3", "é.mp3"),
        ("attachment; filename*=iso-8859-1'en'%E9.mp3", "é.mp3"),
        ("attachment; filename*=unicode_escape''x.mp3", ""),
        ("attachment; filename*=utf-8''a%0D%0Ab%00.mp3", "a\r\nb\0.mp3"),
        ('attachment; filename="one', ""),
    ],
)
def test_the_name_of_a_raw_body_stands_in_its_content_disposition(header: str, filename: str) -> None:
    """RFC 6266; WSGI hands the bytes of a header over as Latin-1."""
    assert filename_of_disposition(header.encode().decode("latin-1")) == filename


CHARSETS = st.sampled_from(["utf-8", "utf-7", "utf-16", "unicode_escape", "idna", "base64", "punycode", "x", ""])


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n")))
@example("attachment; filename*=base64''eA==; filename*0*=x")
@example("; ; filename=\0")
def test_no_content_disposition_breaks_anything(header: str) -> None:
    """Promise 43. Whatever stands there is a name or none, never an exception."""
    assert isinstance(filename_of_disposition(header), str)


@given(CHARSETS, st.text(st.characters(min_codepoint=33, max_codepoint=126)))
def test_no_charset_of_a_name_breaks_anything(charset: str, value: str) -> None:
    """Promise 43. A charset is not a way to reach Python's other codecs."""
    assert isinstance(filename_of_disposition(f"attachment; filename*={charset}''{value}"), str)


# Digests


def test_the_sha256_is_found_among_other_digests() -> None:
    digest = hashlib.sha256(b"x")
    field_value = base64.b64encode(digest.digest()).decode()
    assert sha256_of_digest(f"sha-512=:AAAA:, sha-256=:{field_value}:") == digest.hexdigest()
    assert sha256_of_digest("md5=:AAAA:") is None
    assert sha256_of_digest(None) is None


@pytest.mark.parametrize("header", ["sha-256=abc", "sha-256=:####:", "sha-256=:AAAA:", "SHA-256", "sha-256=:A:"])
def test_a_digest_that_cannot_be_read_is_refused_and_not_ignored(header: str) -> None:
    with pytest.raises(InvalidDigest):
        sha256_of_digest(header)


# Forms


LOOKALIKES = st.sampled_from([b"\r", b"\r\n", b"\r\n--", f"\r\n--{BOUNDARY[:-1]}".encode(), b"--", b"\n"])


@given(st.lists(st.binary(max_size=300) | LOOKALIKES, max_size=12).map(b"".join), st.integers(1, 700))
def test_any_content_comes_out_of_a_form_as_it_went_in(data: bytes, most: int) -> None:
    """However it is cut into pieces on the way, and though it looks like the line between parts."""
    body = form(field("workspace", "team"), field("note", "é"), file_part(data))
    read = read_body(request_of(Trickle(body, most), len(body), form_type()))
    assert read.fields == {"workspace": "team", "note": "é"}
    assert read.filename == "one.mp3"
    assert content_of(read) == data
    # What is declared too low is reserved as it comes; it may only be low by the start of what could be a delimiter.
    assert len(data) - len(BOUNDARY) - 8 <= read.size <= len(data)


def test_a_form_of_one_read_declares_its_size_exactly() -> None:
    assert form_body(form(file_part(b"x" * 1000))).size == 1000
    assert form_body(form(file_part(b"x" * MIB))).size == MIB


def test_a_thumbnail_stands_in_front_of_the_file_or_behind_it() -> None:
    for parts in ([b"t", b"f"], [b"f", b"t"]):
        body = form_body(form(*[file_part(part, name="thumbnail" if part == b"t" else "file") for part in parts]))
        assert content_of(body) == b"f"
        assert body.thumbnail == b"t"


def test_an_empty_thumbnail_is_none_as_browsers_send_it() -> None:
    assert form_body(form(file_part(b"", "", "thumbnail"), file_part(b"f"))).thumbnail is None


@pytest.mark.parametrize("name", ["workspace", "csrfmiddlewaretoken"])
def test_a_field_that_comes_too_late_is_refused_rather_than_ignored(name: str) -> None:
    """Promise 47. What it decides was decided already."""
    with pytest.raises(FieldAfterFile) as error:
        content_of(form_body(form(file_part(b"x"), field(name, "y"))))
    assert error.value.members == {"field": name}


def test_a_form_with_two_files_is_refused() -> None:
    """Promise 47. The second one would be lost without a word."""
    with pytest.raises(Invalid):
        content_of(form_body(form(file_part(b"x"), file_part(b"y"))))


def test_a_preamble_and_an_epilogue_are_skipped() -> None:
    """RFC 2046, 5.1.1."""
    body = b"To whom it may concern\r\n" + form(field("a", "b"), file_part(b"x")) + b"Goodbye"
    read = form_body(body)
    assert (read.fields, content_of(read)) == ({"a": "b"}, b"x")


@pytest.mark.parametrize("boundary", ["x", "x" * 70, "x" * 71, "x" * 4000, "(odd'but)+legal,_./:=?"])
def test_a_boundary_may_have_any_length_that_a_header_allows(boundary: str) -> None:
    """Promise 47. RFC 2046 says 70 at most; longer ones do no harm."""
    quoted = f'multipart/form-data; boundary="{boundary}"'
    body = form(file_part(b"x"), boundary=boundary)
    assert content_of(read_body(request_of(io.BytesIO(body), len(body), quoted))) == b"x"


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary=""']
)
def test_a_form_without_a_boundary_is_refused(content_type: str) -> None:
    """Promise 47. Nothing could be told apart in it."""
    with pytest.raises(MalformedBody):
        read_body(request_of(io.BytesIO(form(file_part(b"x"))), 100, content_type))


PART = b"Content-Disposition: form-data; "
MALFORMED = {
    "no final boundary": form(file_part(b"x"), end=b""),
    "cut short in a delimiter": form(file_part(b"x"))[:-8],
    "another boundary": form(file_part(b"x"), boundary="another"),
    "empty": b"x",
    "ten thousand parts": form(*[field("a", "b")] * 10_000, file_part(b"x")),
    "more parts than are needed": form(*[field("a", "b")] * 20, file_part(b"x")),
    "ten thousand parts behind the file": form(file_part(b"x"), *[field("a", "b")] * 10_000),
    "a header of 1 MiB": form(b"X-Long: " + b"x" * MIB + b"\r\n" + file_part(b"x")),
    "a header without an end": b"--" + BOUNDARY.encode() + b"\r\nX-Long: " + b"x" * MIB,
    "a hundred headers": form(b"X-One: x\r\n" * 100 + file_part(b"x")),
    "no headers": form(b"\r\nx"),
    "no Content-Disposition": form(b"Content-Type: text/plain\r\n\r\nx"),
    "another disposition": form(b'Content-Disposition: attachment; name="file"\r\n\r\nx'),
    "a name that is no text": form(PART + b'name="file"; filename="\xff.mp3"\r\n\r\nx'),
    "lines that end in LF": form(file_part(b"x")).replace(b"\r\n", b"\n"),
    "a part whose own length is wrong": form(b"Content-Length: 5\r\n" + file_part(b"x")),
    "a part whose own length is negative": form(b"Content-Length: -5\r\n" + file_part(b"x")),
    "text behind the first boundary": b"--" + BOUNDARY.encode() + b"x" + form(file_part(b"x")),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_form_that_is_broken_or_abused_is_refused_before_its_file_is_whole(what: str) -> None:
    """Promise 47. The iteration raises, so that no storage makes the object durable."""
    with pytest.raises(MalformedBody):
        content_of(form_body(MALFORMED[what]))


def test_a_form_without_a_file_is_refused() -> None:
    """Promise 47. A form inside a part is a field like any other."""
    inner = b"Content-Type: multipart/mixed; boundary=inner\r\n" + field(
        "files", form(file_part(b"x"), boundary="inner")
    )
    for body in (form(field("a", "b")), form(inner), form()):
        with pytest.raises(Invalid):
            form_body(body)


@pytest.mark.parametrize(("name", "limit"), [("note", 64 * 1024), ("workspace", 64 * 1024), ("thumbnail", 10 * MIB)])
def test_what_stands_beside_the_file_is_bounded(name: str, limit: int) -> None:
    """Promise 47. It is held in memory."""
    assert form_body(form(file_part(b"x" * limit, name=name), file_part(b"f"))).filename == "one.mp3"
    with pytest.raises(FieldTooLarge) as error:
        form_body(form(file_part(b"x" * (limit + 1), name=name), file_part(b"f")))
    assert error.value.members == {"maximum": limit}


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        form(file_part(b"x")),
        f"--{BOUNDARY}\r\n".encode() + field("note", b""),
        f"--{BOUNDARY}\r\n".encode() + file_part(b"", name="thumbnail"),
        form(file_part(b"x"), end=b"\r\n") + field("note", b""),
    ],
    ids=["preamble", "epilogue", "field", "thumbnail", "field behind the file"],
)
def test_a_form_that_goes_on_for_ever_beside_its_file_is_cut_off(beginning: bytes) -> None:
    """Promise 47. After a bounded number of bytes, wherever they stand."""
    stream = Endless(beginning)
    with pytest.raises(FieldTooLarge):
        content_of(read_body(request_of(stream, 2**50, form_type())))
    assert stream.taken <= bodies.MAX_BESIDES_FILE_BYTES + MIB


@given(st.binary(max_size=2000))
@example(form(file_part(b"x")))
def test_no_bytes_break_the_reading_of_a_form(data: bytes) -> None:
    """Promise 47. Whatever is wrong is an error with a code."""
    line = f"--{BOUNDARY}\r\n".encode()
    for body in (data, line + data, line + file_part(data), line + data.replace(b"x", line)):
        if body:
            try:
                content_of(form_body(body))
            except DomainError as error:
                assert error.status in (400, 413)
