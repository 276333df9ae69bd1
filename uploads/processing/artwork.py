"""The third step: the picture in the tags becomes the thumbnail."""

from media.errors import MediaError
from objectstore.errors import ObjectExists
from uploads.intake.thumbnails import save_thumbnail
from uploads.models import AudioUpload
from uploads.objects.marks import StorageNotOurs
from uploads.processing.steps import StepResult
from uploads.processing.working_copy import examined


def attach_artwork(upload: AudioUpload) -> StepResult:
    """Unless the file has a thumbnail. An unusable picture does not fail the file; the event says why."""
    if upload.thumbnail_path:
        return StepResult(details={"artwork": "given"})
    try:
        examination = examined(upload)
    except MediaError as error:
        return StepResult(details={"artwork": "unusable", "error_code": error.code})
    if examination.artwork_error is not None:
        return StepResult(details={"artwork": "unusable", "error_code": examination.artwork_error.code})
    if examination.artwork is None:
        return StepResult(details={"artwork": "none"})
    # Another process may set one in parallel.
    if AudioUpload.objects.filter(pk=upload.pk).exclude(thumbnail_path="").exists():
        return StepResult(details={"artwork": "given"})
    try:
        save_thumbnail(upload, examination.artwork)
    except ObjectExists:
        return StepResult(details={"artwork": "given"})
    except StorageNotOurs as error:
        return StepResult(details={"artwork": "not_stored", "error_code": error.code})
    return StepResult(details={"artwork": "tags"})
