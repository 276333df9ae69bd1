"""How the processes that run the tests share them out: by file, all pages of the browser together, long files first.

A file that is left for the end keeps one process busy while the other has nothing to do.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

#: One site and one Chromium, which take twenty seconds to start.
BROWSER = "tests/browser"
#: Longest first.
LONG = (
    BROWSER,
    "tests/running/test_run.py",
    "tests/objectstore/test_faults.py",
    "tests/uploads/test_worker.py",
    "tests/uploads/test_accounting_stateful.py",
    "tests/running/test_compose.py",
    "tests/uploads/test_storage_doctor_providers.py",
    "tests/running/test_database_away.py",
    "tests/uploads/test_every_storage.py",
    "tests/running/test_copy_database.py",
    "tests/objectstore/test_storage_contract.py",
    "tests/api/test_fuzzing.py",
    "tests/running/test_upgrade.py",
    "tests/uploads/test_search.py",
    "tests/uploads/test_faults_end_to_end.py",
    "tests/uploads/test_move_storage_providers.py",
    "tests/api/test_roles.py",
    "tests/api/test_lists_to_their_end.py",
    "tests/audiotricks/test_admin_pages.py",
    "tests/audiotricks/test_schedules.py",
    "tests/running/test_slow_clients.py",
)


def share_of(nodeid: str) -> str:
    path = nodeid.split("::", 1)[0]
    return BROWSER if path.startswith(f"{BROWSER}/") else path


class Scheduling(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return share_of(nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return Scheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        rank = {share: number for number, share in enumerate(LONG)}
        items.sort(key=lambda item: rank.get(share_of(item.nodeid), len(LONG)))
