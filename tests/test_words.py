"""Every word that a person reads is marked for translation, and has its German."""

import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Message
from babel.messages.mofile import write_mo
from django.contrib.auth.models import User
from django.template import engines
from django.test import Client
from django.utils import translation
from django.utils.functional import Promise
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from audiotricks.errors import DomainError, Invalid
from audiotricks.problems import GENERAL, catalogue
from tests.words import templates_of, unmarked_in_python, unmarked_in_template
from tools import messages

GERMAN = messages.ROOT / "locale" / "de"
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[a-z%]|\{\w*\}")
TAG = re.compile(r"<[^>]+>")
#: Exceptions of others whose first argument is read, beside our own.
FOREIGN_ERRORS = {"AuthenticationFailed", "Http404", "ParseError", "ValidationError"}
#: Where ``description`` and ``help_text`` are the text of the OpenAPI document, which is English for everybody.
API_ONLY = {"schema.py", "serializers.py", "tokens.py", "views.py"}


def translations() -> list[Message]:
    return [message for message in messages.read(GERMAN) if message.id]


def forms(message: Message) -> list[tuple[str, str]]:
    """Each English form with its German one."""
    if isinstance(message.id, str):
        return [(message.id, str(message.string))]
    return list(zip(message.id, message.string, strict=True))


def name_of(message: Message) -> str:
    return message.id if isinstance(message.id, str) else message.id[0]


@pytest.fixture
def german(tmp_path: Path, settings: Any) -> Iterator[None]:
    """German as it stands in the catalogue, whether or not it was compiled."""
    folder = tmp_path / "locale/de/LC_MESSAGES"
    folder.mkdir(parents=True)
    with (folder / "django.mo").open("wb") as file:
        write_mo(file, messages.read(GERMAN))
    settings.LOCALE_PATHS = [tmp_path / "locale"]
    yield
    translation.activate(settings.LANGUAGE_CODE)


# The catalogue


@pytest.mark.parametrize("language", messages.languages(), ids=lambda folder: folder.name)
def test_the_catalogues_hold_what_is_said_and_nothing_else(language: Path) -> None:
    """After a change of words, `make messages` brings them in and takes the old ones out."""
    written = (language / "LC_MESSAGES/django.po").read_bytes()
    assert messages.updated(messages.read(language), messages.collect()) == written, "run `make messages`"


def test_every_message_is_translated_and_none_is_a_guess() -> None:
    missing = [name_of(message) for message in translations() if not all(german for _, german in forms(message))]
    assert not missing
    assert not [name_of(message) for message in translations() if message.fuzzy]


def test_translations_have_the_placeholders_of_what_they_translate() -> None:
    for message in translations():
        for english, german in forms(message):
            assert Counter(PLACEHOLDER.findall(german)) == Counter(PLACEHOLDER.findall(english)), english


def test_translations_have_the_markup_and_the_edges_of_what_they_translate() -> None:
    for message in translations():
        for english, german in forms(message):
            assert sorted(TAG.findall(german)) == sorted(TAG.findall(english)), english
            assert is_balanced(german), german
            assert german[:1].isspace() == english[:1].isspace() and german[-1:].isspace() == english[-1:].isspace()
            assert (german.strip()[-1:] == ".") == (english.strip()[-1:] == "."), (english, german)


def is_balanced(text: str) -> bool:
    stack: list[str] = []
    well = True

    class Balance(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in ("br", "img", "input"):
                stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            nonlocal well
            well = well and bool(stack) and stack.pop() == tag

    reader = Balance()
    reader.feed(text)
    reader.close()
    return well and not stack


# What is marked


@pytest.mark.parametrize(
    "path", templates_of(messages.ROOT / "templates"), ids=lambda path: str(path.relative_to(messages.ROOT))
)
def test_a_template_says_nothing_that_cannot_be_translated(path: Path) -> None:
    assert unmarked_in_template(path.read_text()) == []


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("<p>Hello</p>", ["Hello"]),
        ('<img alt="A cat">', ["A cat"]),
        ('<a title="{{ x }} files">{{ x }}</a>', [" files"]),
        ("{% if x %}Yes{% endif %}", ["Yes"]),
        ('<p>{% translate "Hello" %}, {{ name }}. {% blocktranslate %}Bye{% endblocktranslate %}</p>', []),
        ('<a class="button" href="{% url "x" %}">AudioTricks</a><script>let text = "words"</script>', []),
        ("{% comment %}Words{% endcomment %}{# More words #}<!-- and more -->", []),
    ],
)
def test_the_search_through_templates_finds_what_is_not_marked(template: str, found: list[str]) -> None:
    assert unmarked_in_template(template) == found


def test_python_says_nothing_that_cannot_be_translated() -> None:
    errors = frozenset({error.__name__ for error in DomainError.catalogue.values()} | FOREIGN_ERRORS)
    found = {
        f"{path.relative_to(messages.ROOT)}, {where}"
        for path in messages.our_sources()
        if path.suffix == ".py" and "migrations" not in path.parts
        for where in unmarked_in_python(path.read_text(), errors)
        if path.name not in API_ONLY or not re.search(r"line \d+: [\"']", where)
    }
    assert found == set()


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('raise NotFound("There is none.")', ["line 1: 'There is none.'"]),
        ('raise NotFound(f"There is no {name}.")', ["line 1: f'There is no {name}.'"]),
        ('x = models.CharField(help_text="Its name.")', ["line 1: 'Its name.'"]),
        ('messages.success(request, "Done.")', ["line 1: 'Done.'"]),
        ('_(f"{count} files")', ["line 1: f'{count} files'"]),
        ('raise NotFound(_("There is none."))', []),
        ('raise ValueError("a fault of the programmer")', []),
        ('log.info("row_found", label="")', []),
    ],
)
def test_the_search_through_python_finds_what_is_not_marked(code: str, found: list[str]) -> None:
    assert unmarked_in_python(code, frozenset({"NotFound"})) == found


def test_every_title_of_the_catalogue_of_errors_waits_for_its_reader() -> None:
    titles = {code: error.title for code, error in DomainError.catalogue.items()}
    titles |= {code: title for code, (_status, title) in GENERAL.items()}
    ours = {code for code, title in titles.items() if not isinstance(title, Promise)}
    assert {code for code in ours if not DomainError.catalogue[code].__module__.startswith("tests.")} == set()


# What is read


def test_an_error_is_told_in_the_language_of_whoever_reads_it_and_logged_in_english(german: None) -> None:
    error = Invalid(format_lazy(_("Files that end in .{extension} are not accepted. Accepted are: {accepted}."),
                                extension="txt", accepted="mp3"))  # fmt: skip
    with translation.override("de"):
        assert error.detail.startswith("Dateien mit der Endung .txt")
        assert str(error) == "Files that end in .txt are not accepted. Accepted are: mp3."
        assert catalogue()["worker_lost"] != (500, "The worker that processed the file was lost")
    assert error.detail == str(error)


def test_german_clients_get_the_same_code_with_german_words(german: None, db: None) -> None:
    client = Client()
    client.force_login(User.objects.create_user("ute"))
    english, in_german = (
        client.get("/api/v1/uploads/00000000-0000-4000-8000-000000000000/", headers={"Accept-Language": language})
        for language in ("en", "de-AT,de;q=0.9,en;q=0.5")
    )
    assert english.json()["code"] == in_german.json()["code"] == "not_found"
    assert english.json()["title"] == "There is nothing here, or it is not yours"
    assert in_german.json()["title"] == "Hier ist nichts, oder es gehört dir nicht"
    assert in_german["Content-Language"] == "de" and "Accept-Language" in in_german["Vary"]


def test_sizes_times_and_numbers_are_written_as_germans_write_them(german: None) -> None:
    source = "{{ bytes|filesizeformat }}|{{ day|date }}"
    from datetime import date

    with translation.override("de"):
        shown = engines["django"].from_string(source).render({"bytes": 1_610_613, "day": date(2026, 3, 1)})
    assert shown.replace("\xa0", " ") == "1,5 MB|1. März 2026"
