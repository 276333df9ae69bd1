"""kill -9 at every call that the local storage makes to the system."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.base import ContentFile

from objectstore.errors import ObjectNotFound
from objectstore.local import LocalStorage
from tests.objectstore.crash import CONTENT, NAME, SOURCE


def deaths(operation: str, folder: Path) -> Sequence[str]:
    """Return the call that each death came at, the first in ``folder/1``; the last one got through."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.objectstore.crash", operation, str(folder)],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return process.stdout.split()


def content_of(storage: LocalStorage, name: str) -> bytes | None:
    try:
        with storage.open_range(name) as file:
            return file.read()
    except ObjectNotFound:
        return None


def files_in(storage: LocalStorage) -> set[Path]:
    return {path for path in storage.root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("operation", "publishing"), [("save", "link"), ("save_without_links", "rename"), ("copy", "link")]
)
def test_a_write_killed_at_any_call_leaves_nothing_partial_and_can_be_cleaned_up(
    tmp_path: Path, operation: str, publishing: str
) -> None:
    """Promise 3. The name has the whole object or none; Promise 16: what was left is reclaimed."""
    calls = deaths(operation, tmp_path)
    assert {"mkdir", "open", "write", "fsync", "close", publishing} <= set(calls)
    assert calls[-1] == "done"
    published = []
    for number, _ in enumerate(calls, start=1):
        storage = LocalStorage(tmp_path / str(number))
        existing = {SOURCE} if operation == "copy" else set()
        found = content_of(storage, NAME)
        assert found in (None, CONTENT)
        published.append(found is not None)
        kept = existing | ({NAME} if found else set())
        assert {stat.name for stat in storage.list()} == kept

        storage.save("audio/another/audio.mp3", ContentFile(CONTENT))
        kept.add("audio/another/audio.mp3")
        leftovers = len(files_in(storage)) - len(kept)
        assert leftovers <= 1
        assert storage.remove_partials(datetime.now(UTC) + timedelta(days=1)) == leftovers
        assert files_in(storage) == {storage.root / name for name in kept}
        assert all(any(path.iterdir()) for path in storage.root.rglob("*") if path.is_dir())
        if not found:
            storage.save(NAME, ContentFile(CONTENT))
        assert all(content_of(storage, name) == CONTENT for name in kept | {NAME})
    # What was published once stays so, at each later death as well.
    assert published == sorted(published)
    assert published[-1]


def test_a_delete_killed_at_any_call_leaves_the_whole_object_or_none_and_can_be_asked_again(tmp_path: Path) -> None:
    calls = deaths("delete", tmp_path)
    assert {"unlink", "fsync", "rmdir"} <= set(calls)
    for number, _ in enumerate(calls, start=1):
        storage = LocalStorage(tmp_path / str(number))
        assert content_of(storage, NAME) in (None, CONTENT)
        storage.delete(NAME)
        assert list(storage.root.iterdir()) == []
