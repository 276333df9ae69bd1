"""Documents go out of date in silence; their names and links are held against the house."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import get_commands

DOCUMENTS = [settings.BASE_DIR / "README.md", *sorted((settings.BASE_DIR / "docs").glob("*.md"))]
TOP = {path.name for path in settings.BASE_DIR.iterdir()} - {".venv", "var", "staticfiles"}
QUOTED = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
DOTTED = re.compile(r"(?:audiotricks|quotas|uploads)(?:\.[A-Za-z_]\w*)+")
PICTURE = re.compile(r"\bsrc(?:set)?=\"([^\"]+)\"")
COMMAND = re.compile(r"manage\.py\s+([a-z_]+)")
COMMAND_IN_A_TABLE = re.compile(r"^\| `([a-z_]+)[ `]", re.MULTILINE)
TARGET = re.compile(r"(?:^|`)(?:\w+=\w+ )?make ([a-z]+)", re.MULTILINE)
SETTING = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")


def names_of(document: Path) -> list[str]:
    return sorted(set(QUOTED.findall(document.read_text())))


def exists(dotted: str) -> bool:
    """Whether it is a module, or what a module holds, at any depth."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


def heading_anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_dotted_name_is_one_of_the_code(document: Path) -> None:
    dotted = [name for name in names_of(document) if DOTTED.fullmatch(name)]
    assert [name for name in dotted if not exists(name)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_is_one_of_the_tree(document: Path) -> None:
    paths = [name for name in names_of(document) if name.split("/")[0] in TOP and re.fullmatch(r"[\w./-]+", name)]
    missing = [name for name in paths if not (settings.BASE_DIR / name).exists() and not DOTTED.fullmatch(name)]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_setting_can_be_set_or_read(document: Path) -> None:
    listed = (settings.BASE_DIR / ".env.example").read_text()
    named = [name for name in names_of(document) if SETTING.fullmatch(name)]
    assert [name for name in named if not hasattr(settings, name) and name not in listed] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    dead = []
    for target, anchor in LINK.findall(document.read_text()):
        linked = (document.parent / target).resolve() if target else document
        if not linked.exists() or (anchor and anchor not in heading_anchors(linked)):
            dead.append(f"{target}#{anchor}")
    assert dead == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_picture_is_there(document: Path) -> None:
    missing = [name for name in PICTURE.findall(document.read_text()) if not (document.parent / name).is_file()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_make_target_can_be_typed(document: Path) -> None:
    text = document.read_text()
    targets = re.findall(r"^([a-z]+):", (settings.BASE_DIR / "Makefile").read_text(), re.MULTILINE)
    assert set(COMMAND.findall(text)) <= set(get_commands())
    assert set(TARGET.findall(text)) <= set(targets)


def test_commands_of_ours_are_in_the_tables_of_those_who_type_them() -> None:
    packages = {app.name for app in apps.get_app_configs() if Path(app.path).parent == settings.BASE_DIR}
    ours = {name for name, app in get_commands().items() if app in packages}
    # Of `run` the documents say `make run`; `migrate` is Django's, one at a time.
    ours -= {"run", "migrate"}
    for document in ("README.md", "docs/operations.md"):
        named = COMMAND_IN_A_TABLE.findall((settings.BASE_DIR / document).read_text())
        assert ours <= set(named), document


def test_the_documents_that_readers_begin_with_are_looked_at() -> None:
    assert {"README.md", "architecture.md", "storage.md", "operations.md", "promises.md"} <= {
        document.name for document in DOCUMENTS
    }
    architecture = names_of(settings.BASE_DIR / "docs" / "architecture.md")
    assert len([name for name in architecture if DOTTED.fullmatch(name)]) > 30
