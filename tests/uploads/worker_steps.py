"""Processing steps that tell a test where they are, and wait for it or die."""

import os
import signal
from pathlib import Path

from tests.servers import wait_until
from uploads.models import AudioUpload
from uploads.processing.steps import StepResult


def note(name: str, upload: AudioUpload) -> Path:
    """Append this process's id to a file of the step's name."""
    directory = Path(os.environ["TEST_NOTES"])
    with (directory / name).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return directory


def before(upload: AudioUpload) -> StepResult:
    note("before", upload)
    return StepResult()


def halt(upload: AudioUpload) -> StepResult:
    """Wait until the test says ``go``."""
    directory = note("halt", upload)
    wait_until((directory / "go").exists, seconds=120, what="go")
    return StepResult()


def after(upload: AudioUpload) -> StepResult:
    note("after", upload)
    return StepResult()


def poison(upload: AudioUpload) -> StepResult:
    """Kill the process, as a decoder can that runs into a limit of the system."""
    if upload.original_filename.startswith("poison"):
        note("poison", upload)
        os.kill(os.getpid(), signal.SIGKILL)
    return StepResult()
