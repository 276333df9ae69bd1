"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lifecycle-mgmt.html

Each rule has one prefix; all rules are written in one request. Amazon keeps objects under 128 KB out of STANDARD_IA, so
our rules need no minimum size, which other servers do not know.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from botocore.exceptions import ClientError
from django.utils.translation import gettext_lazy as _

from ..capabilities import LifecycleRules
from ..errors import LifecycleChanged, LifecycleUnsupported
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
    name_in,
    unfinished_days,
)
from .errors import code_of, s3_errors, status_of
from .facts import ARCHIVES
from .requests import Bucket

NO_RULES = "NoSuchLifecycleConfiguration"
#: The errors for unknown rules or classes.
UNSUPPORTED = ("NotImplemented", "MethodNotAllowed", "InvalidStorageClass", "UnsupportedOperation")


class S3Rules(LifecycleRules):
    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._folder = bucket.key("")

    def plan(self) -> LifecyclePlan:
        """See LifecycleRules. Raises LifecycleUnsupported."""
        with s3_errors("get_bucket_lifecycle_configuration", ""):
            return plan_for(self._answer().get("Rules", []), self._folder)

    def apply(self, plan: LifecyclePlan) -> None:
        """See LifecycleRules. Raises LifecycleChanged, LifecycleUnsupported, without any change."""
        with s3_errors("put_bucket_lifecycle_configuration", ""):
            answer = self._answer()
            now = answer.get("Rules", [])
            if mean_the_same(now, plan.after, read_rule):
                return
            if not mean_the_same(now, plan.before, read_rule):
                raise LifecycleChanged
            # An attribute of the whole set, which would return to Amazon's default.
            smallest = "TransitionDefaultMinimumObjectSize"
            kept = {smallest: answer[smallest]} if smallest in answer else {}
            try:
                self._bucket.client.put_bucket_lifecycle_configuration(
                    Bucket=self._bucket.name, LifecycleConfiguration={"Rules": list(plan.after)}, **kept
                )
            except ClientError as error:
                if is_unsupported(error):
                    raise LifecycleUnsupported(
                        _(
                            "This storage does not move objects between classes by itself; its rules are as they were. "
                            "AudioTricks needs none of them to work."
                        )
                    ) from error
                raise

    def _answer(self) -> Mapping[str, Any]:
        try:
            answer: Mapping[str, Any] = self._bucket.client.get_bucket_lifecycle_configuration(Bucket=self._bucket.name)
        except ClientError as error:
            if code_of(error) == NO_RULES:
                return {}
            if is_unsupported(error):
                raise LifecycleUnsupported from error
            raise
        return answer


def plan_for(before: Sequence[Mapping[str, Any]], folder: str = "") -> LifecyclePlan:
    """Rules are written with ``Filter``, or all with the older ``Prefix``: S3 refuses a mixed set."""
    older = any("Prefix" in rule for rule in before)
    return make_plan(before, wanted_rules(folder, older=older), partial(read_rule, folder=folder))


def wanted_rules(folder: str = "", *, older: bool = False) -> list[Mapping[str, Any]]:
    def rule(suffix: str, prefix: str, **actions: Any) -> Mapping[str, Any]:
        place = {"Prefix": folder + prefix} if older else {"Filter": {"Prefix": folder + prefix}}
        return {"ID": name_in(folder) + suffix, "Status": "Enabled", **place, **actions}

    cool = [{"Days": COOL_DAYS, "StorageClass": "STANDARD_IA"}]
    archive = [
        {"Days": ARCHIVE_DAYS, "StorageClass": "GLACIER"},
        {"Days": DEEP_ARCHIVE_DAYS, "StorageClass": "DEEP_ARCHIVE"},
    ]
    return [
        rule("", "", AbortIncompleteMultipartUpload={"DaysAfterInitiation": unfinished_days()}),
        *(rule(f"-{prefix.rstrip('/')}", prefix, Transitions=cool) for prefix in PREFIXES),
        rule(f"-{ARCHIVE_PREFIX.rstrip('/')}", ARCHIVE_PREFIX, Transitions=archive),
    ]


def read_rule(raw: Mapping[str, Any], folder: str = "") -> Rule:
    name = raw.get("ID", "")
    narrowing = raw.get("Filter", {})
    prefix, has_tags = raw.get("Prefix"), False
    if prefix is None:
        both = narrowing.get("And", {})
        prefix = narrowing.get("Prefix", both.get("Prefix", ""))
        has_tags = "Tag" in narrowing or "Tags" in both
    only_prefix = set(narrowing) <= {"Prefix"}
    rest = {key: value for key, value in raw.items() if key not in ("ID", "Filter", "Prefix") and value not in ({}, [])}
    return Rule(
        name=name,
        is_ours=name == name_in(folder) or name.startswith(f"{name_in(folder)}-"),
        prefixes=inside(folder, [prefix]),
        # Our tags are checksums, which no rule selects.
        effects=[] if has_tags or raw["Status"] != "Enabled" else effects_of(raw),
        raw=raw,
        meaning=(name, prefix if only_prefix else narrowing, rest),
    )


def effects_of(raw: Mapping[str, Any]) -> list[Effect]:
    """On current versions only."""
    effects = [
        Effect("move", move.get("Days"), move["StorageClass"], readable=move["StorageClass"] not in ARCHIVES)
        for move in raw.get("Transitions", [])
    ]
    expiration = raw.get("Expiration", {})
    if "Days" in expiration or "Date" in expiration:
        effects.append(Effect("remove", expiration.get("Days")))
    if abort := raw.get("AbortIncompleteMultipartUpload"):
        effects.append(Effect("abort", abort["DaysAfterInitiation"]))
    return effects


def is_unsupported(error: ClientError) -> bool:
    """Swift has only the status, no code."""
    return code_of(error) in UNSUPPORTED or status_of(error) in (405, 501)
