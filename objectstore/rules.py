"""Lifecycle rules of buckets.

Ours never make a file unreadable: objects under ``audio/`` and ``uploads/`` stay readable at once; only ``archive/``
goes to classes that need a restore.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.conf import settings

from .names import PREFIXES

RULE_NAME = "AudioTricksLifecycle"
ARCHIVE_PREFIX = "archive/"
#: Days until a recording moves to a class that costs less to keep and more to read.
COOL_DAYS = 30
#: Days until an archived object moves to the first, and to the second, of the provider's archives.
ARCHIVE_DAYS = 90
DEEP_ARCHIVE_DAYS = 365
SECONDS_OF_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Effect:
    """An effect after ``days`` (None: by another condition). ``readable``: the target class can be read at once."""

    action: Literal["move", "remove", "abort"]
    days: int | None
    storage_class: str = ""
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """``effects`` is empty for a disabled rule. ``prefixes``: an empty one means all names. ``raw`` is the provider's
    form; rules with the same ``meaning`` do the same.
    """

    name: str
    is_ours: bool
    prefixes: Sequence[str]
    effects: Sequence[Effect]
    raw: Mapping[str, Any]
    meaning: Any

    @property
    def threatens(self) -> bool:
        """Whether it removes objects of ours, or makes files in use unreadable."""
        return any(
            (effect.action == "remove" and self._reaches((*PREFIXES, ARCHIVE_PREFIX)))
            or (effect.action == "move" and not effect.readable and self._reaches(PREFIXES))
            for effect in self.effects
        )

    def _reaches(self, places: Sequence[str]) -> bool:
        return any(place.startswith(prefix) or prefix.startswith(place) for prefix in self.prefixes for place in places)


@dataclass(frozen=True, slots=True)
class LifecyclePlan:
    """``before`` and ``after`` are all rules; ``removed`` and ``added`` are ours, a changed one in both. ``threats``
    are others' rules that remove files or make them unreadable; ``kept`` is the number of others' rules.
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
    """In any order: Ceph sorts rules."""
    return bool(unordered([read(raw).meaning for raw in some]) == unordered([read(raw).meaning for raw in others]))


def unordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return sorted((key, unordered(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return sorted(map(unordered, value), key=repr)
    return tuple(map(unordered, value)) if isinstance(value, tuple) else value


def name_in(folder: str) -> str:
    """Other vaults in the bucket have other folders."""
    return f"{RULE_NAME} in {folder}" if folder else RULE_NAME


def inside(folder: str, prefixes: Sequence[str]) -> list[str]:
    """Prefixes of keys as prefixes of names in ``folder``, without those outside."""
    within = [prefix.removeprefix(folder) for prefix in prefixes if prefix.startswith(folder)]
    return within + ["" for prefix in prefixes if folder.startswith(prefix) and prefix != folder]


def unfinished_days() -> int:
    """Days after which no unfinished upload can still be completed."""
    lifetime = max(settings.DIRECT_UPLOAD_SECONDS, settings.UPLOAD_SESSION_SECONDS)
    longest = lifetime + settings.ORPHAN_GRACE_HOURS * 3600
    # An upload that makes progress lasts up to seven days.
    return max(8, math.ceil(longest / SECONDS_OF_DAY) + 1)
