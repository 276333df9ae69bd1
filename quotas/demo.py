"""Something to try the product with: an administrator, a user with a workspace and a token, and a short recording."""

import json
import math
import secrets
import wave
from array import array
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from rest_framework.exceptions import AuthenticationFailed

from audiotricks.authentication import TokenAuthentication
from audiotricks.tokens import create_token
from quotas.models import Membership, Workspace

SAMPLE_RATE = 22_050
SECONDS = 2.5
C_MAJOR = (261.63, 329.63, 392.00, 523.25)


@dataclass(kw_only=True)
class Login:
    """What was given out. An empty password belongs to somebody who was there before us and is left alone."""

    admin: str = "admin"
    admin_password: str = ""
    user: str = "demo"
    user_password: str = ""
    workspace: str = "demo"
    token: str = ""


def prepare_demo(directory: Path) -> tuple[Login, Path]:
    """Make what is missing and return the login and the recording's path.

    The login is remembered in ``demo-login.json`` in the directory, readable by its owner only, so that it is the
    same next time. An account that exists keeps its password.
    """
    remembered = directory / "demo-login.json"
    login = Login(**json.loads(remembered.read_text())) if remembered.exists() else Login()
    with transaction.atomic():
        login.admin_password = make_user(login.admin, login.admin_password, is_staff=True, is_superuser=True)
        login.user_password = make_user(login.user, login.user_password)
        user = User.objects.get(username=login.user)
        workspace, _ = Workspace.objects.get_or_create(slug=login.workspace, defaults={"name": "Demo"})
        Membership.objects.get_or_create(workspace=workspace, user=user, defaults={"role": Membership.Role.OWNER})
        if not is_valid(login.token):
            _, login.token = create_token(user, name="Demo", expires_in=timedelta(days=settings.TOKEN_DAYS))
    write_private(remembered, json.dumps(asdict(login), indent=2) + "\n")
    recording = directory / "demo" / "hello.wav"
    if not recording.exists():
        recording.parent.mkdir(exist_ok=True)
        write_chord(recording)
    return login, recording


def make_user(name: str, password: str, *, is_staff: bool = False, is_superuser: bool = False) -> str:
    """The password with which the user can sign in; empty where the account has one that we do not know."""
    user = User.objects.filter(username=name).first()
    if user is None:
        password = password or secrets.token_urlsafe(9)
        User.objects.create_user(name, password=password, is_staff=is_staff, is_superuser=is_superuser)
        return password
    return password if password and user.check_password(password) else ""


def is_valid(token: str) -> bool:
    try:
        TokenAuthentication().authenticate_credentials(token.encode())
    except AuthenticationFailed:
        return False
    return True


def write_private(path: Path, text: str) -> None:
    """Replace the file in one step; a run that is killed half way leaves the old one."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(path)


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
