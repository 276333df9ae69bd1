import os

from audiotricks.plug import ProcessingStep
from uploads.apps import UploadsConfig


class UploadsWithSteps(UploadsConfig):
    """Its steps are those that a test named."""

    processing_steps = {path: ProcessingStep("Done.") for path in os.environ["TEST_STEPS"].split(",")}
