"""The demo: an administrator, a user with workspace and token, a short recording."""

import json
import math
import secrets
import wave
from array import array
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import transaction

from accounts.tokens import create_token
from audiotricks.files import replace_file
from quotas.models import Membership, Workspace

SAMPLE_RATE = 22_050
SECONDS = 2.5
C_MAJOR = (261.63, 329.63, 392.00, 523.25)


@dataclass(kw_only=True)
class Login:
    admin: str = "admin"
    admin_password: str = ""
    user: str = "demo"
    user_password: str = ""
    workspace: str = "demo"
    token: str = ""


def prepare_demo(directory: Path) -> Login | None:
    """Create the demo if the database has no account; else None.

    ``demo-login.json``, readable by its owner only, is written first, so that a crash locks nobody out; its passwords
    are used again.
    """
    remembered = login_file(directory)
    with transaction.atomic():
        # This row exists after every migration: a second process waits here and then finds users.
        list(ContentType.objects.select_for_update().order_by("pk")[:1])
        if User.objects.exists():
            return None
        login = Login(**json.loads(remembered.read_text())) if remembered.exists() else Login()
        login.admin_password = login.admin_password or secrets.token_urlsafe(9)
        login.user_password = login.user_password or secrets.token_urlsafe(9)
        User.objects.create_superuser(login.admin, password=login.admin_password)
        user = User.objects.create_user(login.user, password=login.user_password)
        workspace, _ = Workspace.objects.get_or_create(slug=login.workspace, defaults={"name": "Demo"})
        Membership.objects.get_or_create(workspace=workspace, user=user, defaults={"role": Membership.Role.OWNER})
        _, login.token = create_token(user, name="Demo", expires_in=timedelta(days=settings.TOKEN_DAYS))
        replace_file(remembered, json.dumps(asdict(login), indent=2) + "\n")
    return login


def login_file(directory: Path) -> Path:
    return directory / "demo-login.json"


def demo_recording(directory: Path) -> Path:
    recording = directory / "demo" / "hello.wav"
    if not recording.exists():
        recording.parent.mkdir(exist_ok=True)
        draft = recording.with_name(f".{uuid4().hex}.wav")
        write_chord(draft)
        draft.replace(recording)
    return recording


def write_chord(path: Path) -> None:
    """A C major chord that fades out, as mono 16-bit PCM."""
    count = int(SAMPLE_RATE * SECONDS)
    samples = array("h")
    for index in range(count):
        moment = index / SAMPLE_RATE
        loudness = min(1.0, moment / 0.02) * (1 - index / count) ** 2
        sound = sum(math.sin(2 * math.pi * pitch * moment) for pitch in C_MAJOR) / len(C_MAJOR)
        samples.append(int(20_000 * loudness * sound))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(samples.itemsize)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())
