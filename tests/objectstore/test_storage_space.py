"""Room: refused before it is used up, and said aloud before that."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from objectstore.base import Space
from objectstore.errors import StorageFull
from objectstore.local import LocalStorage

MB = 1_000_000


@pytest.fixture(autouse=True)
def limits(settings: object) -> None:
    settings.DISK_WARNING_BYTES = 1000 * MB  # type: ignore[attr-defined]
    settings.DISK_RESERVE_BYTES = 10 * MB  # type: ignore[attr-defined]


def with_free_bytes(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, free_bytes: int | None) -> LocalStorage:
    space = None if free_bytes is None else Space(10_000 * MB, 10_000 * MB - free_bytes, free_bytes)
    monkeypatch.setattr(storage, "space", lambda: space)
    return storage


@pytest.mark.parametrize(
    ("free_bytes", "required_bytes", "warned", "refused"),
    [
        (5000 * MB, 0, False, False),
        (5000 * MB, 4000 * MB, False, False),
        (5000 * MB, 4000 * MB + 1, True, False),
        (5000 * MB, 4990 * MB, True, False),
        (5000 * MB, 4990 * MB + 1, True, True),
        (9 * MB, 0, True, True),
        (None, 10**15, False, False),
    ],
)
def test_a_nearly_full_disk_is_warned_of_and_its_last_ten_megabytes_are_refused(
    local: LocalStorage,
    monkeypatch: pytest.MonkeyPatch,
    free_bytes: int | None,
    required_bytes: int,
    warned: bool,
    refused: bool,
) -> None:
    storage = with_free_bytes(local, monkeypatch, free_bytes)
    with capture_logs() as lines:
        if refused:
            with pytest.raises(StorageFull) as raised:
                storage.ensure_space(required_bytes)
            assert raised.value.members == {"required_bytes": required_bytes, "free_bytes": free_bytes}
        else:
            storage.ensure_space(required_bytes)
    assert [line["event"] for line in lines] == (["disk_nearly_full"] if warned else [])


def test_a_local_storage_has_the_room_of_its_disk_also_before_its_folder_exists(tmp_path: Path) -> None:
    space = LocalStorage(tmp_path / "not" / "yet" / "made").space()
    assert 0 < space.free_bytes <= space.total_bytes
    assert 0 < space.used_bytes < space.total_bytes
    assert not (tmp_path / "not").exists()
