"""The result of a processing step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from uploads.models import AudioUpload


@dataclass(frozen=True, slots=True)
class StepResult:
    """Columns to store, details for the event log, and what must happen in the same transaction.

    ``decide`` runs first in that transaction; it may take the quota row's lock and move the upload on.
    """

    columns: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    decide: Callable[[AudioUpload], None] | None = None
