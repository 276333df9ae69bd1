"""The result of a processing step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from uploads.models import AudioUpload


@dataclass(frozen=True, slots=True)
class StepResult:
    """Columns to store, details for the event log, and a decision in the same transaction.

    ``look`` finds out, outside any transaction, what ``decide`` needs. ``decide`` runs first in the transaction and may
    lock objects and move the upload on; where it says False, both are asked again.
    """

    columns: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    look: Callable[[], Any] = lambda: None
    decide: Callable[[AudioUpload, Any], bool] = lambda _upload, _seen: True
