"""Sample recordings: several formats, speech and music, and one of each kind of outcome."""

import time
from dataclasses import dataclass
from pathlib import Path

from django.contrib.auth.models import User

from quotas.models import Workspace
from uploads.intake.files import store_audio_file
from uploads.lifecycle.trash import delete_upload
from uploads.models import AudioUpload
from uploads.models.states import UNPROCESSED, WITHOUT_OBJECT
from uploads.processing.runner import process_upload

FOLDER = Path(__file__).resolve().parent / "samples"
POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """A file of FOLDER and its name in the vault, which is added once."""

    file: str
    name: str
    to_trash: bool = False


SAMPLES = (
    Sample("welcome.opus", "Welcome.opus"),
    Sample("minutes.m4a", "Minutes of the meeting.m4a"),
    Sample("greeting.mp3", "Guten Tag, eine Begrüßung.mp3"),
    Sample("waltz.mp3", "Waltz for three fingers.mp3"),
    Sample("chords.m4a", "Four chords.m4a"),
    Sample("drums.ogg", "Drums, third take.ogg"),
    Sample("bell.flac", "Bell.flac"),
    Sample("metronome.wav", "Metronome.wav"),
    # A duplicate: the same bytes under another name.
    Sample("welcome.opus", "Welcome (copy).opus"),
    # Fails in validation.
    Sample("cut-off.flac", "Bell (broken copy).flac"),
    Sample("rain.webm", "Rain on the roof.webm", to_trash=True),
)


@dataclass(frozen=True, slots=True)
class Seeded:
    sample: Sample
    upload: AudioUpload
    is_new: bool


def seed_samples(workspace: Workspace, *, owner: User) -> list[Seeded]:
    """Add the samples that the workspace lacks; a worker processes them. A renamed sample or one in the trash counts as
    present, a purged one does not.
    """
    return [_seed(sample, workspace, owner) for sample in SAMPLES]


def _seed(sample: Sample, workspace: Workspace, owner: User) -> Seeded:
    known = AudioUpload.objects.in_workspace(workspace).filter(metadata__sample=sample.name)
    if found := known.exclude(status__in=WITHOUT_OBJECT).first():
        return Seeded(sample, found, is_new=False)
    stored = store_audio_file(
        FOLDER / sample.file,
        filename=sample.name,
        workspace=workspace,
        owner=owner,
        metadata={"sample": sample.name},
        door="demo",
    )
    return Seeded(sample, AudioUpload.objects.get(pk=stored.audio_id), is_new=True)


def throw_away(seeded: list[Seeded], *, actor: User) -> None:
    """Move the new samples for the trash there."""
    for each in seeded:
        if each.is_new and each.sample.to_trash:
            each.upload.refresh_from_db()
            delete_upload(each.upload, actor=actor)


def finish_processing(seeded: list[Seeded], *, within_seconds: float) -> bool:
    """Process the samples that no worker has taken, and wait for the others. Return whether all were done in time."""
    deadline = time.monotonic() + within_seconds
    mine = [each.upload.pk for each in seeded]
    unfinished = AudioUpload.objects.filter(pk__in=mine, status__in=UNPROCESSED).order_by("uploaded_at", "id")
    while True:
        for pk in unfinished.values_list("pk", flat=True):
            process_upload(str(pk))
        if not unfinished.exists():
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
