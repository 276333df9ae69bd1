"""The second step: what kind of audio is it, and what does it say about itself?"""

from decimal import Decimal

from uploads.formats import audio_format
from uploads.media.inspection import read_facts
from uploads.models import AudioUpload
from uploads.steps import StepResult
from uploads.working import working_copy

#: What the columns hold; a header can claim anything.
LONGEST = Decimal("9999999.999")
LARGEST = 2**31 - 1


def describe(upload: AudioUpload) -> StepResult:
    """Duration in seconds, sample rate in Hz, channels, bitrate in kbit/s, codec; the tags go to ``metadata``."""
    with working_copy(upload) as path:
        facts = read_facts(path, audio_format(upload.storage_path))
    others = {name: value for name, value in upload.metadata.items() if name != "tags_cut"}
    return StepResult(
        columns={
            "duration": min(facts.duration, LONGEST),
            "sample_rate": min(facts.sample_rate, LARGEST),
            "channels": min(facts.channels, LARGEST),
            "bitrate": min(facts.bitrate, LARGEST),
            "codec": facts.codec[:50],
            "metadata": {**others, "tags": facts.tags, **({"tags_cut": True} if facts.tags_cut else {})},
        },
        details={"codec": facts.codec, "duration": float(min(facts.duration, LONGEST))},
    )
