"""One figure of a benchmark, and how a run is reported."""

import json
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

AS_JSON = "BENCHMARKS_AS_JSON"


@dataclass(frozen=True, slots=True)
class Figure:
    """``measured`` is in words, with its unit. ``ratio`` is to the peer or limit that ``what`` names."""

    what: str
    measured: str
    ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def holds(self) -> bool:
        if self.ratio is None:
            return True
        above = self.at_least is None or self.ratio >= self.at_least
        return above and (self.at_most is None or self.ratio <= self.at_most)

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""


def report(figures: Sequence[Figure]) -> int:
    """Print the figures, for people or for ``python -m benchmarks``; return the exit code, 1 for a missed target."""
    if os.environ.get(AS_JSON):
        print(json.dumps([asdict(figure) for figure in figures]))
    else:
        print(table(figures))
    return 0 if all(figure.holds for figure in figures) else 1


def table(figures: Sequence[Figure]) -> str:
    rows = [("what", "measured", "ratio", "target", "")]
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        rows.append((figure.what, figure.measured, ratio, figure.target, "" if figure.holds else "MISSED"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(line(row, widths) for row in rows)


def line(row: Sequence[str], widths: Sequence[int]) -> str:
    what, measured, ratio, target, missed = row
    cells = (what.ljust(widths[0]), measured.ljust(widths[1]), ratio.rjust(widths[2]), target.ljust(widths[3]), missed)
    return "  ".join(cells).rstrip()


def by_turns(rounds: int, **sides: Callable[[], float]) -> dict[str, list[float]]:
    """Run each side once a round and collect what they return: a machine that is busy for a while is so for all."""
    results: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            results[name].append(side())
    return results


def median_ratio(mine: Sequence[float], peers: Sequence[float]) -> float:
    """The median of each round's own ratio."""
    return statistics.median(one / other for one, other in zip(mine, peers, strict=True))
