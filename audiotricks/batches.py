from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    # itertools.batched comes with Python 3.12.
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int, name: str
) -> Iterator[Result]:
    """Yield the results of parallel ``work`` as they complete, with at most ``ahead`` items taken early. The first
    exception, or closing the iterator, ends it.
    """
    waiting: set[Future[Result]] = set()
    with ThreadPoolExecutor(threads, thread_name_prefix=name) as pool:
        try:
            for item in items:
                waiting.add(pool.submit(work, item))
                if len(waiting) >= threads + ahead:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            for future in as_completed(waiting):
                yield future.result()
        finally:
            for future in waiting:
                future.cancel()
