"""Rules by which a provider itself moves objects to cheaper classes: what they are now, and what ours would make them.

None of them may take a file out of reach behind the database's back: what lies under ``audio/`` and ``uploads/`` stays
in classes that are read at once; only what we put under ``archive/`` goes where it must be restored first.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.conf import settings

from .names import PREFIXES

RULE_NAME = "AudioTricksLifecycle"
ARCHIVE_PREFIX = "archive/"
#: Days until a recording is moved to a class that costs less to keep, and more to read.
COOL_DAYS = 30
#: Days until an archived object is moved to the first, and to the second, of the provider's archives.
ARCHIVE_DAYS = 90
DEEP_ARCHIVE_DAYS = 365
SECONDS_OF_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Effect:
    """What a rule does with an object, or with the parts of one that was never finished.

    ``days`` is after how many; None where it goes by something else, such as a date. ``readable`` is whether the class
    that it moves to can be read at once.
    """

    action: Literal["move", "remove", "abort"]
    days: int | None
    storage_class: str = ""
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a bucket, read. ``effects`` has nothing of a rule that is switched off.

    ``prefixes`` are beginnings of objects' names; an empty one means all. ``raw`` is the provider's own form, and two
    rules of the same ``meaning`` do the same, however they are written.
    """

    name: str
    is_ours: bool
    prefixes: Sequence[str]
    effects: Sequence[Effect]
    raw: Mapping[str, Any]
    meaning: Any

    @property
    def threatens(self) -> bool:
        """Whether it removes objects of ours, or moves files that are in use to where they cannot be read."""
        return any(
            (effect.action == "remove" and self._reaches((*PREFIXES, ARCHIVE_PREFIX)))
            or (effect.action == "move" and not effect.readable and self._reaches(PREFIXES))
            for effect in self.effects
        )

    def _reaches(self, places: Sequence[str]) -> bool:
        return any(place.startswith(prefix) or prefix.startswith(place) for prefix in self.prefixes for place in places)


@dataclass(frozen=True, slots=True)
class LifecyclePlan:
    """All rules of a bucket in the provider's own form, ``before`` and ``after``; others' are in both, unchanged.

    ``removed`` and ``added`` are ours; one that is changed is in both. ``threats`` are others' rules that make files
    unreadable or remove them, ``kept`` is how many rules of others there are.
    """

    before: Sequence[Mapping[str, Any]]
    after: Sequence[Mapping[str, Any]]
    removed: Sequence[Rule] = ()
    added: Sequence[Rule] = ()
    threats: Sequence[Rule] = ()
    kept: int = 0

    @property
    def changes(self) -> bool:
        return list(self.before) != list(self.after)


def make_plan(
    before: Sequence[Mapping[str, Any]],
    wanted: Sequence[Mapping[str, Any]],
    read: Callable[[Mapping[str, Any]], Rule],
) -> LifecyclePlan:
    """Put ``wanted``, which are ours, in the place of those of ours that are there; leave all others as they are."""
    missing = {rule.name: rule for rule in map(read, wanted)}
    after: list[Mapping[str, Any]] = []
    removed: list[Rule] = []
    added: list[Rule] = []
    foreign: list[Rule] = []
    for rule in map(read, before):
        if not rule.is_ours:
            foreign.append(rule)
            after.append(rule.raw)
            continue
        ours = missing.pop(rule.name, None)
        if ours is not None and unordered(ours.meaning) == unordered(rule.meaning):
            after.append(rule.raw)
            continue
        removed.append(rule)
        if ours is not None:
            added.append(ours)
            after.append(ours.raw)
    added += missing.values()
    after += [rule.raw for rule in missing.values()]
    threats = [rule for rule in foreign if rule.threatens]
    return LifecyclePlan(before, after, removed, added, threats, len(foreign))


def mean_the_same(
    some: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], read: Callable[[Mapping[str, Any]], Rule]
) -> bool:
    """Whether two sets of rules do the same, in whatever order: some servers (Ceph) sort what they are given."""
    return bool(unordered([read(raw).meaning for raw in some]) == unordered([read(raw).meaning for raw in others]))


def unordered(value: Any) -> Any:
    """The same for all orders of what a value consists of."""
    if isinstance(value, Mapping):
        return sorted((key, unordered(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return sorted(map(unordered, value), key=repr)
    return tuple(map(unordered, value)) if isinstance(value, tuple) else value


def name_in(folder: str) -> str:
    """What our rules are called: others with a folder of their own in the same bucket have theirs."""
    return f"{RULE_NAME} in {folder}" if folder else RULE_NAME


def inside(folder: str, prefixes: Sequence[str]) -> list[str]:
    """Beginnings of keys as beginnings of names in ``folder`` (with its ``/``, or empty); none of what is outside."""
    within = [prefix.removeprefix(folder) for prefix in prefixes if prefix.startswith(folder)]
    return within + ["" for prefix in prefixes if folder.startswith(prefix) and prefix != folder]


def unfinished_days() -> int:
    """After how many days the parts of an unfinished upload may go: when nobody can want to finish it any more."""
    longest = settings.DIRECT_UPLOAD_SECONDS + settings.ORPHAN_GRACE_HOURS * 3600
    return max(7, math.ceil(longest / SECONDS_OF_DAY) + 1)
