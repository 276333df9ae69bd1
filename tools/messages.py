"""``make messages``: every text that a person reads goes into each language's catalogue, to be translated there.

Needs no GNU gettext. Catalogues are sorted and name no lines, so that they change only where the words do. What is new
comes in empty, what is no longer said goes, and nothing is guessed.
"""

import io
from pathlib import Path

import django
import unfold
from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parents[1]
OURS = ("accounts", "audiotricks", "media", "objectstore", "quotas", "templates", "uploads")
DJANGO = Path(django.__file__).parent
DJANGO_CATALOGUES = ("conf", "contrib/admin", "contrib/auth")
#: What we say ourselves, since a language of Django's lacks it or says it in another tone. Ours comes first.
DJANGO_WORDS = (
    'Are you sure you want to delete the %(object_name)s "%(escaped_object)s"? All of the following related items will'
    " be deleted:",
    "Are you sure you want to delete the selected %(objects_name)s? All of the following objects and their related"
    " items will be deleted:",
    "Conflicting form data submitted. Please try again.",
    "Deleting the %(object_name)s '%(escaped_object)s' would result in deleting related objects, but your account"
    " doesn't have permission to delete the following types of objects:",
    "Deleting the selected %(objects_name)s would result in deleting related objects, but your account doesn't have"
    " permission to delete the following types of objects:",
    "Disable password-based authentication",
    "Disabled",
    "Enable password-based authentication",
    "Enable password-based authentication for this user by setting a password.",
    "Enabled",
    "Enter a new password for the user <strong>%(username)s</strong>.",
    "Enter the same password as before, for verification.",
    "Hold down “Control”, or “Command” on a Mac, to select more than one.",
    "Old password",
    "Password-based authentication",
    "Password-based authentication was disabled.",
    "Raw passwords are not stored, so there is no way to see the user’s password.",  # noqa: RUF001
    "Reset password",
    "Save and add another",
    "Save and continue editing",
    "Set password",
    "Set password: %s",
    "This action will <strong>enable</strong> password-based authentication for this user.",
    "Whether the user will be able to authenticate using a password or not. If disabled, they may still be able to"
    " authenticate using other backends, such as Single Sign-On or LDAP.",
    "users",
)
#: The admin's theme brings no language: what it says beyond Django's own words is ours to translate.
UNFOLD = Path(unfold.__file__).parent
THEME = (
    "*.py",
    "mixins/base_model_admin.py",
    "templatetags/*.py",
    "templates/**/*.html",
    "contrib/filters/**/*.py",
    "contrib/filters/**/*.html",
)
KEYWORDS = {
    **DEFAULT_KEYWORDS,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext_lazy": (1, 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext_lazy": ((1, "c"), 2, 3),
}


def our_sources() -> list[Path]:
    """The files of our apps and templates that may hold words."""
    found = (path for folder in OURS for path in (ROOT / folder).rglob("*"))
    return sorted(path for path in found if path.suffix in (".py", ".html", ".txt"))


def collect() -> Catalog:
    """Everything that is marked for translation, without translations."""
    catalogue = Catalog()
    for path in our_sources():
        add_words_of(path, catalogue)
    theme = Catalog()
    for pattern in THEME:
        for path in UNFOLD.glob(pattern):
            add_words_of(path, theme)
    of_django = {message.id for name in DJANGO_CATALOGUES for message in read(DJANGO / name / "locale/en")}
    for message in theme:
        if message.id and message.id not in of_django:
            catalogue.add(message.id, context=message.context)
    for words in DJANGO_WORDS:
        catalogue.add(words)
    return catalogue


def add_words_of(path: Path, catalogue: Catalog) -> None:
    text = path.read_text()
    # What is left of a template keeps its indentation, over which Python's tokenizer would stumble.
    code = text if path.suffix == ".py" else "\n".join(line.lstrip() for line in templatize(text).splitlines())
    for _line, words, comments, context in extract(
        "python", io.BytesIO(code.encode()), KEYWORDS, comment_tags=("Translators:",)
    ):
        catalogue.add(words, auto_comments=comments, context=context)


def languages() -> list[Path]:
    """The folders of our own languages."""
    return sorted(path.parents[1] for path in (ROOT / "locale").glob("*/LC_MESSAGES/django.po"))


def read(language: Path) -> Catalog:
    with (language / "LC_MESSAGES/django.po").open("rb") as file:
        return read_po(file, locale=language.name)


def updated(catalogue: Catalog, found: Catalog) -> bytes:
    """The catalogue as it is written: with the translations that it has, of what was found and nothing else."""
    catalogue.update(found, no_fuzzy_matching=True, update_creation_date=False)
    written = io.BytesIO()
    write_po(written, catalogue, width=0, sort_output=True, no_location=True, ignore_obsolete=True)
    return written.getvalue()


if __name__ == "__main__":
    found = collect()
    for language in languages():
        (language / "LC_MESSAGES/django.po").write_bytes(updated(read(language), found))
