"""The third step: the picture in the tags becomes the thumbnail."""

from media.errors import MediaError
from media.formats import audio_format
from media.inspection import extract_artwork
from objectstore.errors import ObjectExists
from uploads.intake.thumbnails import save_thumbnail
from uploads.models import AudioUpload
from uploads.objects.marks import StorageNotOurs
from uploads.processing.steps import StepResult
from uploads.processing.working_copy import working_copy


def attach_artwork(upload: AudioUpload) -> StepResult:
    """Store the picture in the file's tags as its thumbnail, unless it has one.

    A picture that cannot be used is told in the diary and does not fail the file: the audio is whole.
    """
    if upload.thumbnail_path:
        return StepResult(details={"artwork": "given"})
    try:
        with working_copy(upload) as path:
            image = extract_artwork(path, audio_format(upload.storage_path))
    except MediaError as error:
        return StepResult(details={"artwork": "unusable", "error_code": error.code})
    if image is None:
        return StepResult(details={"artwork": "none"})
    # Somebody may have set one meanwhile, or do so at this very moment.
    if AudioUpload.objects.filter(pk=upload.pk).exclude(thumbnail_path="").exists():
        return StepResult(details={"artwork": "given"})
    try:
        save_thumbnail(upload, image)
    except ObjectExists:
        return StepResult(details={"artwork": "given"})
    except StorageNotOurs as error:
        return StepResult(details={"artwork": "not_stored", "error_code": error.code})
    return StepResult(details={"artwork": "tags"})
