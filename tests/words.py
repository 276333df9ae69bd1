"""Finds words that nobody can translate: text in templates and literals in Python that are not marked."""

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from django.template.base import Lexer, TokenType

WORD = re.compile(r"[^\W\d_]{2,}")
#: Names and units that are the same in every language.
UNTRANSLATED = frozenset({"AudioTricks", "SHA", "Hz", "kbit"})
SILENT = ("code", "script", "style")
READ_ATTRIBUTES = frozenset({"alt", "aria-description", "aria-label", "content", "placeholder", "title"})
#: What takes a text that a person reads, by keyword, whatever is called.
READ_KEYWORDS = frozenset(
    {"description", "empty_label", "help_text", "label", "short_description", "verbose_name", "verbose_name_plural"}
)
GETTEXTS = re.compile(r"_|n?p?gettext(_lazy)?")


def has_words(text: str) -> bool:
    return any(word not in UNTRANSLATED for word in WORD.findall(text))


class VisibleText(HTMLParser):
    """Collects what a reader sees or hears of a page: text that is no code, and some attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.silent += tag in SILENT
        names = dict(attrs)
        if tag == "meta" and names.get("name") != "description":
            return
        self.found += [value for name, value in attrs if name in READ_ATTRIBUTES and value and has_words(value)]

    def handle_endtag(self, tag: str) -> None:
        self.silent -= tag in SILENT

    def handle_data(self, data: str) -> None:
        if not self.silent and has_words(data):
            self.found.append(" ".join(data.split()))


def unmarked_in_template(source: str) -> list[str]:
    """The text of a template that stands in no ``translate`` or ``blocktranslate`` tag."""
    kept = []
    inside = ""
    for token in Lexer(source).tokenize():
        name = token.contents.split()[0] if token.token_type == TokenType.BLOCK else ""
        if name in ("blocktranslate", "blocktrans", "comment"):
            inside = name
        elif name == f"end{inside}":
            inside = ""
        elif token.token_type == TokenType.TEXT and not inside:
            kept.append(token.contents)
    reader = VisibleText()
    reader.feed("".join(kept))
    reader.close()
    return reader.found


def unmarked_in_python(source: str, *, errors: frozenset[str], keywords: frozenset[str] = READ_KEYWORDS) -> list[str]:
    """Literals that a person reads and that are not marked, and marks around what is no literal.

    ``errors`` are the exceptions whose first argument is read, ``keywords`` the arguments of any call that are.
    """
    found = _unmarked(ast.parse(source), errors, keywords)
    return [f"line {call.lineno}: {ast.unparse(part)}" for call, part in found]


def _unmarked(tree: ast.AST, errors: frozenset[str], keywords: frozenset[str]) -> Iterator[tuple[ast.Call, ast.expr]]:
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        yield from ((call, word.value) for word in call.keywords if word.arg in keywords and _is_text(word.value))
        if name in errors and call.args and _is_text(call.args[0]):
            yield call, call.args[0]
        if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "messages":
            yield from ((call, argument) for argument in call.args[1:2] if _is_text(argument))
        if GETTEXTS.fullmatch(name) and call.args and not isinstance(call.args[0], ast.Constant):
            yield call, call.args[0]


def _is_text(value: ast.expr) -> bool:
    if isinstance(value, ast.JoinedStr):
        return any(_is_text(part) for part in value.values)
    return isinstance(value, ast.Constant) and isinstance(value.value, str) and has_words(value.value)


def templates_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix in (".html", ".txt"))
