"""CSV: every cell comes back as it was, and none is a formula."""

import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from django.utils.translation import gettext_lazy

from audiotricks.web.exports import csv_lines, csv_response

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t",
    "\r",
    "\n1",
    "\0=1",
    *(f"{wide}1" for wide in "\uff1d\uff0b\uff0d\uff20"),
    # What a spreadsheet drops when it reads the cell.
    *(f"{dropped}=1" for dropped in (" ", "\x0b", "\x1b", "\x7f", "\u00a0", "\u200b", "\ufeff", " \x01\u00a0")),
]


class Named:
    """A row of a table: text once it is written."""

    def __str__(self) -> str:
        return "+1"


def cells(*row: Any) -> list[str]:
    text = "".join(csv_lines([row]))
    (only,) = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    return only


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_would_be_run_is_text_with_an_apostrophe(text: str) -> None:
    """Promise 48. In the first cell and in any other."""
    assert cells(text, "x", text) == [f"'{text}", "x", f"'{text}"]


@pytest.mark.parametrize("text", ["talk;=cmd|' /C calc'!A0", 'a";=1', "a; \t+1", "a\n=1", "a\t@x", ";-1", "a;b;=1"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_no_cell_is_a_formula_however_the_spreadsheet_splits(text: str, delimiter: str) -> None:
    """Promise 48. Excel splits at ``;`` where the comma is the decimal point."""
    lines = "".join(csv_lines([[text, "x", text, text]])).removeprefix("\ufeff")
    found = [cell for row in csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter) for cell in row]
    assert found and not [cell for cell in found if cell.lstrip(' \t"').startswith(("=", "+", "-", "@"))]


def test_every_field_is_quoted() -> None:
    assert "".join(csv_lines([["a", None, 1, "b c"]])) == '\ufeff"a","","1","b c"\r\n'


@pytest.mark.parametrize("value", ["a=b", "a; b=c", "", " ", 'a "quoted", b', "two\nlines", "ü", "'", 0, 1.5, "a\0b"])
def test_anything_else_is_left_as_it_is(value: Any) -> None:
    assert cells(value) == [str(value)]


@pytest.mark.parametrize("value", [Named(), gettext_lazy("+1")])
def test_what_becomes_text_when_it_is_written_is_text(value: Any) -> None:
    """Promise 48."""
    assert cells(value) == ["'+1"]


@pytest.mark.parametrize("number", [-5, -0.5, Decimal("-1.500")])
def test_a_number_below_zero_stays_a_number(number: Any) -> None:
    """Promise 48 is about text: numbers are ours, and a spreadsheet adds them up."""
    assert cells(number) == [str(number)]


def test_nothing_is_an_empty_cell() -> None:
    assert cells(None, "x") == ["", "x"]


@pytest.mark.parametrize("name", ['a"b.csv', "a\r\nSet-Cookie: x.csv", "ü.csv", "\u202ecsv.exe"])
def test_any_name_gives_one_safe_header_line(name: str) -> None:
    """Promise 43."""
    header = csv_response(name, [])["Content-Disposition"]
    assert header.isascii() and header.isprintable()
    assert header.startswith("attachment; filename")
