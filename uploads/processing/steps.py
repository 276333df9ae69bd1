from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from uploads.models import AudioUpload


@dataclass(frozen=True, slots=True)
class StepResult:
    """Columns, event details, and a decision for one transaction.

    ``look`` gathers, outside transactions, what ``decide`` needs. ``decide`` runs first in the transaction and may lock
    objects and move the upload on; if it returns False, both run again.
    """

    columns: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    look: Callable[[], Any] = lambda: None
    decide: Callable[[AudioUpload, Any], bool] = lambda _upload, _seen: True
