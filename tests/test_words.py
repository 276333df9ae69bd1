"""Every word that a person reads is marked for translation, and has its German."""

import ast
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from celery.exceptions import SoftTimeLimitExceeded
from django.contrib.auth.models import User
from django.template import engines
from django.test import Client
from django.utils import translation
from django.utils.functional import Promise
from django_celery_beat.models import CrontabSchedule

from audiotricks.admin.schedule import crontab_in_words
from audiotricks.errors import GENERAL, DomainError, catalogue
from media.formats import UnsupportedFormat, audio_format
from objectstore.errors import TransientStorageError
from quotas.workspaces import create_workspace, personal_workspace
from tests.api.rows import store_upload
from tests.plugging import steps_of
from tests.words import READ_KEYWORDS, templates_of, unmarked_in_python, unmarked_in_template
from tools import messages
from uploads.errors import ObjectLost, WorkerLost
from uploads.models import AudioUpload, Status
from uploads.processing.runner import process_upload
from uploads.processing.steps import StepResult

GERMAN = messages.ROOT / "locale" / "de"
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[a-z%]|\{\w*\}")
TAG = re.compile(r"<[^>]+>")
#: Exceptions of others whose first argument is read, beside our own.
FOREIGN_ERRORS = {"AuthenticationFailed", "Http404", "ParseError", "ValidationError"}
#: Where ``description`` and ``help_text`` are the text of the OpenAPI document, which is English for everybody.
OF_THE_API = "api"


def translations() -> list[Message]:
    return [message for message in messages.read(GERMAN) if message.id]


def forms(message: Message) -> list[tuple[str, str]]:
    """Each English form with its German one, which is empty where it is missing."""
    if isinstance(message.id, str):
        return [(message.id, str(message.string))]
    return list(zip(message.id, message.string, strict=True))


def translated_forms() -> list[tuple[str, str]]:
    return [form for message in translations() for form in forms(message) if form[1]]


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


def test_what_the_scripts_of_the_administration_say_is_translated() -> None:
    """They take Django's own words; where its German lacks some, ours stands in."""
    folder = messages.DJANGO / "contrib/admin/locale"
    of_django, ours = (read_scripts(folder / "de"), read_scripts(GERMAN))
    spoken = {name_of(message): message for message in read_scripts(folder / "en") if message.id}
    done = {name_of(message) for found in (of_django, ours) for message in found if all(g for _, g in forms(message))}
    assert set(spoken) - done == set()
    assert {name_of(message) for message in ours if message.id} - set(spoken) == set()
    for message in ours:
        for english, german in forms(message) if message.id else []:
            assert Counter(PLACEHOLDER.findall(german)) == Counter(PLACEHOLDER.findall(english)), english


def read_scripts(language: Path) -> Catalog:
    with (language / "LC_MESSAGES/djangojs.po").open("rb") as file:
        return read_po(file, locale=language.name)


def test_what_we_say_instead_of_django_is_what_django_says() -> None:
    """A word that Django no longer says goes from the list."""
    said = {
        name_of(message)
        for name in messages.DJANGO_CATALOGUES
        for message in messages.read(messages.DJANGO / name / "locale/en")
    }
    assert set(messages.DJANGO_WORDS) - said == set()


def test_translations_have_the_placeholders_of_what_they_translate() -> None:
    for english, german in translated_forms():
        assert Counter(PLACEHOLDER.findall(german)) == Counter(PLACEHOLDER.findall(english)), english


def test_translations_have_the_markup_and_the_edges_of_what_they_translate() -> None:
    for english, german in translated_forms():
        assert sorted(TAG.findall(german)) == sorted(TAG.findall(english)), english
        assert is_balanced(german), german
        assert edges(german) == edges(english), (english, german)


def edges(text: str) -> tuple[bool, bool, bool]:
    return text[0].isspace(), text[-1].isspace(), text.rstrip().endswith(".")


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
        ('<code>curl "{{ address }}"</code>', []),
        ("{% comment %}Words{% endcomment %}{# More words #}<!-- and more -->", []),
    ],
)
def test_the_search_through_templates_finds_what_is_not_marked(template: str, found: list[str]) -> None:
    assert unmarked_in_template(template) == found


def test_python_says_nothing_that_cannot_be_translated() -> None:
    errors = frozenset({error.__name__ for error in DomainError.catalogue.values()} | FOREIGN_ERRORS)
    found = [
        f"{path.relative_to(messages.ROOT)}, {where}"
        for path in messages.our_sources()
        if path.suffix == ".py" and "migrations" not in path.parts
        for where in unmarked_in_python(
            path.read_text(), errors=errors, keywords=frozenset() if OF_THE_API in path.parts else READ_KEYWORDS
        )
    ]
    assert found == []


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
    assert unmarked_in_python(code, errors=frozenset({"NotFound"})) == found


def test_every_title_of_the_catalogue_of_errors_waits_for_its_reader() -> None:
    titles = {code: error.title for code, error in DomainError.catalogue.items()}
    titles |= {code: title for code, (_status, title) in GENERAL.items()}
    ours = {code for code, title in titles.items() if not isinstance(title, Promise)}
    assert {code for code in ours if not DomainError.catalogue[code].__module__.startswith("tests.")} == set()


# What is read


def test_an_error_is_told_in_the_language_of_whoever_reads_it_and_logged_in_english(german: None) -> None:
    with pytest.raises(UnsupportedFormat) as refusal:
        audio_format("notes.txt")
    english = "Files that end in .txt are not accepted. Accepted are: "
    assert refusal.value.detail.startswith(english)
    with translation.override("de"):
        assert refusal.value.detail.startswith("Dateien mit der Endung .txt werden nicht angenommen.")
        assert str(refusal.value).startswith(english)


def test_german_clients_get_the_same_code_with_german_words(german: None, db: None) -> None:
    client = Client()
    client.force_login(User.objects.create_user("ute"))
    english, in_german = (
        client.get(f"/api/v1/uploads/{uuid.uuid4()}/", headers={"Accept-Language": language})
        for language in ("en", "de-AT,de;q=0.9,en;q=0.5")
    )
    assert english.json()["code"] == in_german.json()["code"] == "not_found"
    assert english.json()["title"] == "There is nothing here, or it is not yours"
    assert in_german.json()["title"] == "Hier ist nichts, oder es gehört dir nicht"
    assert in_german["Content-Language"] == "de" and "Accept-Language" in in_german["Vary"]


def test_the_document_that_programs_are_written_from_is_english_for_everybody(german: None, db: None) -> None:
    english, for_a_german = (
        Client().get("/api/schema/", headers={"Accept-Language": language}).content for language in ("en", "de")
    )
    assert b"Your role does not allow this" in english
    assert for_a_german == english


def test_a_personal_workspace_says_so_beside_a_shared_one(german: None, db: None) -> None:
    ute = User.objects.create_user("ute")
    own, shared = personal_workspace(ute), create_workspace(ute, name="Ute")
    client = Client()
    client.force_login(ute)
    for page in ("/?q=a", "/trash/?q=a", "/upload/"):
        shown = client.get(page, headers={"Accept-Language": "de"}).content.decode()
        for workspace, words in ((own, "ute (persönlich)"), (shared, "Ute")):
            assert re.search(f'<option value="{workspace.slug}"[^>]*>{re.escape(words)}</option>', shown)


def test_a_time_of_every_day_is_told_in_the_language_of_who_reads_it(german: None) -> None:
    daily, monthly = (CrontabSchedule(minute="15", hour="3", day_of_month=day) for day in ("*", "1"))
    assert crontab_in_words(daily) == "every day at 3:15 a.m. (UTC)"
    with translation.override("de"):
        assert crontab_in_words(daily) == "täglich 03:15 (UTC)"
        assert "day 1 of the month" in crontab_in_words(monthly)


def test_sizes_and_days_are_written_as_germans_write_them(german: None) -> None:
    template = engines["django"].from_string("{{ bytes|filesizeformat }}, {{ day|date }}")
    with translation.override("de"):
        shown = template.render({"bytes": 1_610_613, "day": date(2026, 3, 1)})
    assert shown.replace("\xa0", " ") == "1,5 MB, 1. März 2026"


# What is stored

FAULTS = {
    "object_missing": (ObjectLost(), "The stored object is missing"),
    "storage_unavailable": (TransientStorageError(), "The storage cannot be reached just now; try again"),
    "processing_time_limit": (SoftTimeLimitExceeded(), "Processing took longer than 3600 seconds."),
    "internal_error": (ZeroDivisionError(), "Processing met an unexpected error; the worker's log has it"),
}


def stumble(upload: AudioUpload) -> StepResult:
    raise FAULTS[upload.metadata["fault"]][0]


@pytest.mark.parametrize("code", FAULTS)
def test_a_worker_that_speaks_german_stores_english_and_a_code_that_has_its_german(
    german: None, db: None, declare: Callable[..., None], code: str
) -> None:
    declare(processing_steps=steps_of("tests.test_words.stumble"))
    workspace = personal_workspace(User.objects.create_user("ute"))
    upload = store_upload(workspace, status=Status.UPLOADED, metadata={"fault": code})
    with translation.override("de"):
        process_upload(str(upload.pk))
        upload.refresh_from_db()
        assert (upload.error_code, upload.error_message) == (code, FAULTS[code][1])
        assert catalogue()[code][1] != str(DomainError.catalogue[code]())


def test_every_code_that_is_written_into_a_row_is_in_the_catalogue() -> None:
    written = {
        keyword.value.value
        for path in messages.our_sources()
        if path.suffix == ".py"
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "error_code" and isinstance(keyword.value, ast.Constant)
    }
    assert written - {""} <= set(catalogue())
    assert {WorkerLost.code, *FAULTS} <= set(catalogue())
