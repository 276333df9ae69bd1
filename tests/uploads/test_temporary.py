import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from uploads.temporary import remove_leftovers, temporary_file


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.TEMP_AUDIO_DIR = tmp_path / "made" / "when needed"
    return settings.TEMP_AUDIO_DIR


def test_a_temporary_file_lies_in_our_folder_and_goes_whatever_happens(folder: Path) -> None:
    with pytest.raises(RuntimeError), temporary_file("image-") as file:
        assert Path(file.name).parent == folder
        raise RuntimeError
    assert list(folder.iterdir()) == []


def test_only_what_is_older_than_the_grace_period_is_reclaimed(folder: Path) -> None:
    """Promise 9. A file that is being worked with is younger than that."""
    folder.mkdir(parents=True)
    before = timezone.now() - timedelta(hours=24)
    for name, age in (("old", timedelta(seconds=-1)), ("young", timedelta(seconds=1))):
        (folder / name).touch()
        moment = (before + age).timestamp()
        os.utime(folder / name, (moment, moment))

    assert remove_leftovers(before) == 1

    assert [path.name for path in folder.iterdir()] == ["young"]
