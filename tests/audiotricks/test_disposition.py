"""Names in headers: no longer than proxies and file systems take, and cut between characters."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiotricks.web.disposition import MAX_NAME_BYTES, content_disposition, shortened

FAMILY = "👩\u200d👩\u200d👧"


@pytest.mark.parametrize(
    ("name", "longest", "short"),
    [
        ("a.wav", 5, "a.wav"),
        ("abcdef.wav", 8, "abcd.wav"),
        ("漢漢漢.wav", 12, "漢漢.wav"),
        ("e\u0301e\u0301.wav", 8, "e\u0301.wav"),
        ("e\u0301e\u0301.wav", 9, "e\u0301.wav"),
        (f"a{FAMILY}.wav", 18, "a.wav"),
        ("a👍🏽.wav", 10, "a.wav"),
        ("abc. .wav", 8, "abc.wav"),
        ("no extension", 4, "no e"),
        ("a." + "b" * 30, 10, "a.bbbbbbbb"),
    ],
)
def test_a_name_is_cut_between_characters_and_keeps_its_extension(name: str, longest: int, short: str) -> None:
    assert shortened(name, longest) == short


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=500))
def test_no_name_makes_a_long_header(name: str) -> None:
    """Promise 43."""
    header = content_disposition(name + ".flac", as_attachment=True)
    assert header.isascii()
    assert len(header) <= 3 * MAX_NAME_BYTES + 40
    assert header.count("\n") == header.count("\r") == 0


def test_480_letters_of_three_bytes_stay_under_a_kilobyte() -> None:
    """Promise 43."""
    header = content_disposition("録" * 480 + ".flac", as_attachment=True)
    assert len(header) < 1024
    match = re.search(r"filename\*=utf-8''(.*)", header)
    assert match is not None
    assert unquote(match[1]) == "録" * 83 + ".flac"
