"""docs/promises.md is a list of claims; this holds it against the tests that it names."""

import ast
import re
from functools import cache

import pytest
from django.conf import settings

DOCUMENT = (settings.BASE_DIR / "docs" / "promises.md").read_text()
PROMISED = range(1, 54)
#: These get their sections one by one.
ADDED = range(54, 67)
#: A promise's heading with all that stands under it.
SECTIONS = {
    int(number): body for number, body in re.findall(r"^### (\d+)\. (.*?)(?=^#|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
}
NOT_YET = [int(number) for number in re.findall(r"^\| (\d+) \|", DOCUMENT, re.MULTILINE)]
QUOTE = re.compile(r"Promises? ((?:\d+(?:, | and )?)+)")


def named_tests(section: str) -> list[tuple[str, str]]:
    """Each test with the file that is named before it."""
    file, named = "", []
    for quoted in re.findall(r"`(tests/[^`]+|test_\w+)`", section):
        if quoted.startswith("tests/"):
            file = quoted
        else:
            named.append((file, quoted))
    return named


@cache
def docstrings(file: str) -> dict[str, str]:
    tree = ast.parse((settings.BASE_DIR / file).read_text())
    return {
        node.name: ast.get_docstring(node) or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def quoted_numbers(docstring: str) -> set[int]:
    return {int(number) for quote in QUOTE.findall(docstring) for number in re.findall(r"\d+", quote)}


def test_each_promise_is_kept_or_not_yet() -> None:
    kept = sorted([*SECTIONS, *NOT_YET])
    assert len(kept) == len(set(kept))
    assert set(PROMISED) <= set(kept) <= {*PROMISED, *ADDED}


@pytest.mark.parametrize("number", SECTIONS)
def test_a_promise_names_tests_that_exist_and_quote_it(number: int) -> None:
    named = named_tests(SECTIONS[number])
    assert named
    for file, test in named:
        assert number in quoted_numbers(docstrings(file).get(test, "")), f"{file}: {test}"


def test_what_is_promised_without_a_number_names_tests_that_exist() -> None:
    named = named_tests(DOCUMENT.partition("\n## Without a number\n")[2])
    assert named
    assert [(file, test) for file, test in named if test not in docstrings(file)] == []


def test_no_test_quotes_a_promise_that_was_never_given() -> None:
    quoted = {
        number
        for path in (settings.BASE_DIR / "tests").rglob("test_*.py")
        for docstring in docstrings(str(path.relative_to(settings.BASE_DIR))).values()
        for number in quoted_numbers(docstring)
    }
    assert quoted <= {*PROMISED, *ADDED}
    assert set(SECTIONS) <= quoted
