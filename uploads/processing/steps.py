from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from uploads.models import AudioUpload


@dataclass(frozen=True, slots=True)
class StepResult:
    """Columns, event details, and a decision for one transaction.

    ``look`` gathers, outside, what ``decide`` needs, which runs first in the transaction and may lock objects and move
    the upload; False repeats both.
    """

    columns: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    look: Callable[[], Any] = lambda: None
    decide: Callable[[AudioUpload, Any], bool] = lambda _upload, _seen: True
