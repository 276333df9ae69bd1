"""Staff with and without rights, and what their browsers send."""

from typing import Any

from django.contrib.auth.models import Permission
from django.test import Client

from tests.factories import UserFactory
from uploads.actions.bulk import preview
from uploads.actions.holds import HOLD
from uploads.models import AudioUpload

FILES = "/admin/uploads/audioupload/"


def client_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def superuser() -> Client:
    return client_of(UserFactory(username="root", is_staff=True, is_superuser=True))


def staff_with(*codenames: str) -> Client:
    """Staff with these permissions alone."""
    user = UserFactory(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return client_of(user)


def page_of(upload: AudioUpload) -> str:
    return f"{FILES}{upload.pk}/change/"


def ask(client: Client, action: str, *uploads: AudioUpload, across: str = "", **more: str) -> Any:
    """An action on these files; ``across`` is the query of a list all of whose files are meant."""
    chosen = {"action": action, "_selected_action": [str(upload.pk) for upload in uploads], **more}
    return client.post(FILES + across, chosen | ({"select_across": "1"} if across else {}))


def confirm(client: Client, action: str, *uploads: AudioUpload, **more: str) -> Any:
    return ask(client, action, *uploads, confirmed=shown(*uploads), **more)


def shown(*uploads: AudioUpload) -> str:
    """What the page that asks about these files holds, to be told which files it named."""
    return preview(HOLD, AudioUpload.objects.filter(pk__in=[upload.pk for upload in uploads])).mark
