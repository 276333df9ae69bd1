"""An alias leads to a storage, or to a clear error."""

import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings as project

from objectstore import default_alias, get_storage
from objectstore.errors import PermanentStorageError
from objectstore.local import LocalStorage


def test_new_files_go_to_the_storage_of_the_setting(audio_root: Path) -> None:
    storage = get_storage(default_alias())
    assert isinstance(storage, LocalStorage)
    assert (storage.provider, storage.region, storage.root) == ("local", "", audio_root)
    assert get_storage(default_alias()) is storage


@pytest.mark.parametrize("alias", ["gone", "default", "staticfiles"])
def test_an_alias_that_is_no_audio_storage_is_a_clear_error(alias: str) -> None:
    with pytest.raises(PermanentStorageError, match=alias):
        get_storage(alias)


def test_the_package_can_be_imported_before_django_is_set_up() -> None:
    modules = "objectstore, objectstore.local, objectstore.names, objectstore.retry"
    subprocess.run([sys.executable, "-c", f"import {modules}"], cwd=project.BASE_DIR, env={}, check=True, timeout=60)
