"""Lifecycle rules of a Google Cloud Storage bucket: https://cloud.google.com/storage/docs/lifecycle.

Rules have no names: ours are known by their action and prefixes, whatever their days. Every class, also COLDLINE and
ARCHIVE, can be read at once.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from google.cloud.storage import Bucket

from ..capabilities import LifecycleRules
from ..errors import BucketNotFound, LifecycleChanged, ObjectExists
from ..names import PREFIXES
from ..rules import (
    ARCHIVE_DAYS,
    ARCHIVE_PREFIX,
    COOL_DAYS,
    DEEP_ARCHIVE_DAYS,
    Effect,
    LifecyclePlan,
    Rule,
    inside,
    make_plan,
    mean_the_same,
    unfinished_days,
)

if TYPE_CHECKING:
    from . import GCSStorage

#: Conditions that no current object of ours meets: about older versions, and about times that we do not set.
NOT_OURS = (
    "numNewerVersions",
    "daysSinceNoncurrentTime",
    "noncurrentTimeBefore",
    "daysSinceCustomTime",
    "customTimeBefore",
)


class GCSRules(LifecycleRules):
    def __init__(self, storage: "GCSStorage") -> None:
        self._storage = storage

    def plan(self) -> LifecyclePlan:
        return plan_for(rules_of(self._look()), self._storage.folder)

    def apply(self, plan: LifecyclePlan) -> None:
        """See LifecycleRules. Raises LifecycleChanged if the bucket changed since the plan was made."""
        bucket = self._look()
        now = rules_of(bucket)
        if mean_the_same(now, plan.after, read_rule):
            return
        if not mean_the_same(now, plan.before, read_rule):
            raise LifecycleChanged
        bucket.lifecycle_rules = plan.after
        try:
            self._storage.ask(
                "write rules",
                "",
                bucket.patch,
                missing=BucketNotFound,
                if_metageneration_match=bucket.metageneration,
            )
        except ObjectExists as error:
            # The error for a precondition that failed.
            raise LifecycleChanged from error

    def _look(self) -> Bucket:
        bucket = self._storage.google_bucket
        self._storage.ask("read rules", "", bucket.reload, missing=BucketNotFound)
        return bucket


def plan_for(before: Sequence[Mapping[str, Any]], folder: str = "") -> LifecyclePlan:
    return make_plan(before, wanted_rules(folder), partial(read_rule, folder=folder))


def rules_of(bucket: Any) -> list[Mapping[str, Any]]:
    # ``bucket.lifecycle_rules`` omits kinds of rules that the library does not know, which we would then remove.
    return list(bucket._properties.get("lifecycle", {}).get("rule", []))


def wanted_rules(folder: str = "") -> list[Mapping[str, Any]]:
    def move(storage_class: str, days: int, prefixes: Sequence[str]) -> Mapping[str, Any]:
        return {
            "action": {"type": "SetStorageClass", "storageClass": storage_class},
            "condition": {"age": days, "matchesPrefix": [folder + prefix for prefix in prefixes]},
        }

    place = {"matchesPrefix": [folder]} if folder else {}

    return [
        {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": unfinished_days(), **place}},
        move("NEARLINE", COOL_DAYS, PREFIXES),
        move("COLDLINE", ARCHIVE_DAYS, [ARCHIVE_PREFIX]),
        move("ARCHIVE", DEEP_ARCHIVE_DAYS, [ARCHIVE_PREFIX]),
    ]


def read_rule(raw: Mapping[str, Any], folder: str = "") -> Rule:
    condition = raw.get("condition", {})
    name = name_of(raw)
    prefixes = condition.get("matchesPrefix") or [""]
    return Rule(
        name=name,
        is_ours=set(condition) <= {"age", "matchesPrefix"} and name in map(name_of, wanted_rules(folder)),
        prefixes=inside(folder, prefixes),
        effects=effects_of(raw),
        raw=raw,
        meaning=(raw.get("action"), {**condition, "matchesPrefix": sorted(prefixes)}),
    )


def name_of(raw: Mapping[str, Any]) -> str:
    """Its action, class and prefixes identify a rule."""
    action = raw.get("action", {})
    prefixes = sorted(raw.get("condition", {}).get("matchesPrefix") or [])
    return " ".join(filter(None, [action.get("type", ""), action.get("storageClass", ""), *prefixes]))


def effects_of(raw: Mapping[str, Any]) -> list[Effect]:
    condition, action = raw.get("condition", {}), raw.get("action", {})
    if condition.get("isLive") is False or any(name in condition for name in NOT_OURS):
        return []
    days = condition.get("age")
    match action.get("type"):
        case "SetStorageClass":
            return [Effect("move", days, action["storageClass"])]
        case "Delete":
            return [Effect("remove", days)]
        case "AbortIncompleteMultipartUpload":
            return [Effect("abort", days)]
    return []
