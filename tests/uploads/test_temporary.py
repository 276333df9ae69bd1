import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from audiotricks.temporary import OURS, remove_leftovers, temporary_file


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.TEMP_AUDIO_DIR = tmp_path / "made" / "when needed"
    return settings.TEMP_AUDIO_DIR


def test_a_temporary_file_lies_in_our_folder_and_goes_whatever_happens(folder: Path) -> None:
    with pytest.raises(RuntimeError), temporary_file("image") as file:
        assert Path(file.name).parent == folder
        raise RuntimeError
    assert list(folder.iterdir()) == []


def test_only_what_is_older_than_the_grace_period_is_reclaimed(folder: Path) -> None:
    """Promise 9. A file that is being worked with is younger than that."""
    with temporary_file("image") as young:
        moment = Path(young.name).stat().st_mtime
        dead = folder / f"{OURS}image-dead"
        dead.touch()
        os.utime(dead, (moment - 1, moment - 1))

        assert remove_leftovers(datetime.fromtimestamp(moment - 0.5, UTC)) == 1

        assert list(folder.iterdir()) == [Path(young.name)]


def test_what_others_keep_in_the_same_folder_is_left_alone(folder: Path) -> None:
    """Promise 9. TEMP_AUDIO_DIR may be the machine's own folder for temporary files."""
    folder.mkdir(parents=True)
    (folder / "of-somebody-else").touch()
    (folder / "a-folder").mkdir()

    assert remove_leftovers(timezone.now() + timedelta(hours=1)) == 0

    assert len(list(folder.iterdir())) == 2
