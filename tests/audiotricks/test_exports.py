"""CSV: every cell comes back as it was, and none is a formula."""

import csv
import io
from typing import Any

import pytest

from audiotricks.exports import csv_lines, csv_response

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\0=1",
    *(f"{wide}1" for wide in "\uff1d\uff0b\uff0d\uff20"),
]


def cells(*row: Any) -> list[str]:
    text = "".join(csv_lines([row]))
    (only,) = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    return only


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_would_be_run_is_text_with_an_apostrophe(text: str) -> None:
    """Promise 48. In the first cell and in any other."""
    assert cells(text, "x", text) == [f"'{text}", "x", f"'{text}"]


@pytest.mark.parametrize("value", ["a=b", "", " ", 'a "quoted", b', "two\nlines", "ü", "'", 0, 1.5, "a\0b"])
def test_anything_else_is_left_as_it_is(value: Any) -> None:
    assert cells(value) == [str(value)]


def test_a_number_below_zero_stays_a_number() -> None:
    """Promise 48 is about text: numbers are ours, and a spreadsheet adds them up."""
    assert cells(-5) == ["-5"]


@pytest.mark.parametrize("name", ['a"b.csv', "a\r\nSet-Cookie: x.csv", "ü.csv", "\u202ecsv.exe"])
def test_any_name_gives_one_safe_header_line(name: str) -> None:
    """Promise 43."""
    header = csv_response(name, [])["Content-Disposition"]
    assert header.isascii() and header.isprintable()
    assert header.startswith("attachment; filename")
