"""Lists by key, where the API's pages do not show it already."""

from typing import Any

import pytest

from audiotricks.keyset import BrokenCursor, cursor_at, page_of, pages_of
from quotas.models import Workspace
from tests.factories import WorkspaceFactory

pytestmark = pytest.mark.django_db
ORDERING = ("name", "id")


@pytest.mark.parametrize("count", [0, 1, 4, 5, 12])
def test_all_rows_come_in_batches_each_once_in_order(count: int) -> None:
    for number in range(count):
        WorkspaceFactory(name=f"{number % 3}")
    batches = list(pages_of(Workspace.objects.all(), ORDERING, size=4))
    assert [row for batch in batches for row in batch] == list(Workspace.objects.order_by(*ORDERING))
    assert [len(batch) for batch in batches[:-1]] == [4] * len(batches[:-1])


def test_a_row_that_comes_between_two_batches_repeats_none() -> None:
    rows = [WorkspaceFactory(name=name) for name in "bdfh"]
    batches = pages_of(Workspace.objects.all(), ORDERING, size=2)
    first = next(batches)
    WorkspaceFactory(name="a")
    assert [*first, *next(batches)] == rows


def test_a_long_name_gives_no_address_that_servers_refuse() -> None:
    """They take lines of 8 KB, and a page's filters stand there too."""
    row = WorkspaceFactory(name="".join(chr(0x1F300 + number) for number in range(200)))
    assert len(cursor_at(row, ("name", "id"), backwards=False)) < 1200


def test_an_empty_page_leads_nowhere() -> None:
    page: Any = page_of(Workspace.objects.none(), ORDERING, size=5)
    assert (page.rows, page.next, page.previous) == ([], "", "")


def test_a_cursor_of_another_order_is_none() -> None:
    cursor = cursor_at(WorkspaceFactory(), ("-name", "-id"), backwards=False)
    with pytest.raises(BrokenCursor):
        page_of(Workspace.objects.all(), ORDERING, size=5, cursor=cursor)
