"""The headers of tus, as clients write them and as they must not."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiotricks.errors import DomainError
from uploads.intake.http.tus_headers import (
    declared_length,
    format_metadata,
    metadata_text,
    parse_checksum,
    parse_concat,
    parse_metadata,
    upload_offset,
)

KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=","), min_size=1, max_size=20)


def b64(value: bytes | str) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


@given(st.dictionaries(KEYS, st.binary(max_size=200), max_size=8))
def test_metadata_is_given_back_as_it_came(pairs: dict[str, bytes]) -> None:
    """Promise 25: re-encoded by us, so only Base64 and printable keys reach an answer."""
    header = ",".join(f"{key} {b64(value)}" for key, value in pairs.items())
    read = parse_metadata(header)
    assert {key: base64.b64decode(value) for key, value in read.items()} == pairs
    written = format_metadata(read)
    assert parse_metadata(written) == read
    assert written.isascii() and written.isprintable()


@given(st.text(max_size=100))
def test_any_metadata_is_read_or_refused(header: str) -> None:
    try:
        read = parse_metadata(header)
    except DomainError as error:
        assert (error.status, error.code) == (400, "invalid_metadata")
    else:
        written = format_metadata(read)
        assert written.isascii() and "\r" not in written and "\n" not in written
        assert parse_metadata(written) == read


@pytest.mark.parametrize(
    "header",
    [
        "filename not-base64!",
        "filename YQ",
        "filename YQ==YQ==x",
        "filename YQ== YQ==",
        "filename  YQ==",
        "filename YQ==,filename Yg==",
        "filename YQ==,",
        ",filename YQ==",
        "näme YQ==",
        "fi\rle YQ==",
        "filename YQ==\r\nSet-Cookie: a=b",
        "filename YQ==\n",
        "filename Y\nQ==",
    ],
)
def test_metadata_that_cannot_be_read_is_refused(header: str) -> None:
    with pytest.raises(DomainError) as refused:
        parse_metadata(header)
    assert (refused.value.status, refused.value.code) == (400, "invalid_metadata")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, {}),
        ("", {}),
        ("is_confidential", {"is_confidential": ""}),
        ("is_confidential ", {"is_confidential": ""}),
        ("filename YQ==, filetype Yg==", {"filename": "YQ==", "filetype": "Yg=="}),
        ("filename YQ==,is_confidential", {"filename": "YQ==", "is_confidential": ""}),
    ],
)
def test_metadata_may_be_missing_and_values_empty(header: str | None, expected: dict[str, str]) -> None:
    assert parse_metadata(header) == expected


def test_metadata_is_bounded_as_one_line_of_a_head_is() -> None:
    longest = f"filename {'A' * (8192 - len('filename '))}"
    assert len(longest) == 8192
    assert parse_metadata(longest[: 8192 - 3])["filename"]
    with pytest.raises(DomainError, match="longer than 8192"):
        parse_metadata(longest + "AAAA")


def test_a_name_is_utf_8_whatever_it_holds() -> None:
    metadata = parse_metadata(f"name {b64('Übung 1.wav')},filename {b64('')}")
    assert metadata_text(metadata, "filename", "name") == "Übung 1.wav"
    assert metadata_text(metadata, "workspace") == ""
    with pytest.raises(DomainError, match="not UTF-8"):
        metadata_text(parse_metadata(f"filename {b64(bytes([255, 254]))}"), "filename")


@pytest.mark.parametrize(
    ("length", "defer", "expected"),
    [("0", None, 0), ("17", None, 17), ("9" * 18, None, int("9" * 18)), (None, "1", None)],
)
def test_the_length_is_declared_or_deferred(length: str | None, defer: str | None, expected: int | None) -> None:
    assert declared_length(length, defer) == expected


@pytest.mark.parametrize(
    ("length", "defer"),
    [
        (None, None), ("17", "1"), (None, "0"), (None, "2"), (None, ""), (None, "true"), ("", None), ("-1", None),
        ("+1", None),
        ("1.5", None), ("1e3", None), ("0x10", None), ("ten", None), ("9x", None), ("\u0661", None), (" 17", None),
    ],
)  # fmt: skip
def test_any_other_length_is_refused(length: str | None, defer: str | None) -> None:
    with pytest.raises(DomainError) as refused:
        declared_length(length, defer)
    assert (refused.value.status, refused.value.code) == (400, "invalid_upload_length")


@pytest.mark.parametrize("header", [None, "", "-1", "a", "1.0", "²"])
def test_an_offset_that_is_no_number_is_refused(header: str | None) -> None:
    with pytest.raises(DomainError) as refused:
        upload_offset(header)
    assert (refused.value.status, refused.value.code) == (400, "invalid_upload_offset")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, (False, None)),
        ("partial", (True, None)),
        ("final;/a /b", (False, ["/a", "/b"])),
        ("final;", (False, [])),
        ("final; http://h/a", (False, ["http://h/a"])),
    ],
)
def test_concatenation_is_read(header: str | None, expected: Any) -> None:
    assert parse_concat(header) == expected


@pytest.mark.parametrize("header", ["", "Partial", "final", "finally;/a", "partial;/a"])
def test_any_other_concatenation_is_refused(header: str) -> None:
    with pytest.raises(DomainError) as refused:
        parse_concat(header)
    assert (refused.value.status, refused.value.code) == (400, "invalid_upload_concat")


def test_a_checksum_is_read() -> None:
    assert parse_checksum(None) is None
    assert parse_checksum(f"sha1 {b64(bytes(20))}") == ("sha1", bytes(20))
    assert parse_checksum(f"md5 {b64(bytes(16))}") == ("md5", bytes(16))
    assert parse_checksum(f"sha256 {b64(bytes(32))}") == ("sha256", bytes(32))


@pytest.mark.parametrize(
    "header",
    ["", "sha1", "sha1 ", "sha1 ====", f"crc32 {b64(bytes(4))}", f"sha1 {b64(bytes(19))}", f"SHA1 {b64(bytes(20))}",
     f"sha1  {b64(bytes(20))}", f"sha1:{b64(bytes(20))}", f"sha1 {b64(bytes(20))}\n"],
)  # fmt: skip
def test_any_other_checksum_is_refused(header: str) -> None:
    with pytest.raises(DomainError) as refused:
        parse_checksum(header)
    assert (refused.value.status, refused.value.code) == (400, "invalid_checksum")
