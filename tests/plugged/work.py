from typing import Any

from celery import shared_task

from audiotricks.running.health import CheckFailed
from uploads.models import AudioUpload
from uploads.processing.steps import StepResult


def listen(upload: AudioUpload) -> StepResult:
    return StepResult(columns={"metadata": {**upload.metadata, "heard": True}})


def check_plug() -> dict[str, Any]:
    raise CheckFailed("The plug is out.")


@shared_task(name="plugged.wind")
def wind() -> dict[str, int]:
    return {"turns": 7}
