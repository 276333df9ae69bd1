"""What apps declare, as a test wants it."""

from typing import Any

import pytest

from audiotricks.plug import ProcessingStep, vault_apps


def declare_only(monkeypatch: pytest.MonkeyPatch, **attributes: Any) -> None:
    """Has the apps declare this and nothing else of its kind: ``declare_only(monkeypatch, figures=("a.b",))``."""
    for name, value in attributes.items():
        for app in vault_apps():
            monkeypatch.setattr(app, name, value if app.label == "audiotricks" else type(value)())


def steps_of(*paths: str) -> dict[str, ProcessingStep]:
    return {path: ProcessingStep("Done.") for path in paths}
