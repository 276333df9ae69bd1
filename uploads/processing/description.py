"""The second step: facts and tags of the audio."""

from uploads.models import AudioUpload
from uploads.processing.steps import StepResult
from uploads.processing.working_copy import examined


def describe(upload: AudioUpload) -> StepResult:
    """Duration in seconds, sample rate in Hz, bitrate in kbit/s, each None if unknown; tags go to ``metadata``."""
    facts = examined(upload).facts
    others = {name: value for name, value in upload.metadata.items() if name != "tags_cut"}
    return StepResult(
        columns={
            "duration": facts.duration,
            "sample_rate": facts.sample_rate,
            "channels": facts.channels,
            "bitrate": facts.bitrate,
            "codec": facts.codec[:50],
            "metadata": {**others, "tags": facts.tags, **({"tags_cut": True} if facts.tags_cut else {})},
        },
        details={"codec": facts.codec, "duration": None if facts.duration is None else float(facts.duration)},
    )
