"""Rules by which a provider itself moves objects to cheaper classes: what they are now, and what ours would make them.

None of them may take a file out of reach behind the database's back: what lies under ``audio/`` and ``uploads/`` stays
in classes that are read at once; only what we put under ``archive/`` goes where it must be restored first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RULE_NAME = "AudioTricksLifecycle"


@dataclass(frozen=True, slots=True)
class LifecyclePlan:
    """All rules of a bucket in the provider's own form, ``before`` and ``after``; others' are in both."""

    before: Sequence[Mapping[str, Any]]
    after: Sequence[Mapping[str, Any]]

    @property
    def changes(self) -> bool:
        return list(self.before) != list(self.after)
