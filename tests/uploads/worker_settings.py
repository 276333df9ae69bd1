"""The project's settings for a worker whose steps a test holds up, or lets die."""

import os

from audiotricks.settings import *  # noqa: F403

INSTALLED_APPS = [
    "tests.uploads.worker_apps.UploadsWithSteps" if app == "uploads" else app
    for app in INSTALLED_APPS  # noqa: F405
]
PROCESSING_CLAIM_SECONDS = 1
CELERY_TASK_SOFT_TIME_LIMIT = int(os.environ.get("TEST_SOFT_TIME_LIMIT", "60"))
