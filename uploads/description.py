"""The second step: what kind of audio is it, and what does it say about itself?"""

from uploads.formats import audio_format
from uploads.media.sandbox import read_facts
from uploads.models import AudioUpload
from uploads.steps import StepResult
from uploads.storage import get_storage


def describe(upload: AudioUpload) -> StepResult:
    """Duration in seconds, sample rate in Hz, channels, bitrate in kbit/s, codec; the tags go to ``metadata``."""
    with get_storage(upload.storage_provider).working_copy(upload.storage_path) as path:
        facts = read_facts(path, audio_format(f"x.{upload.file_type}"))
    return StepResult(
        columns={
            "duration": facts.duration,
            "sample_rate": facts.sample_rate,
            "channels": facts.channels,
            "bitrate": facts.bitrate,
            "codec": facts.codec,
            "metadata": {**upload.metadata, "tags": facts.tags},
        },
        details={"codec": facts.codec, "duration": float(facts.duration or 0)},
    )
