"""A client of tus that says exactly what a test wants it to say."""

import base64
from typing import Any

from django.test import Client

from accounts.models import ApiToken
from accounts.tokens import create_token
from tests.factories import UserFactory, client_for
from uploads.models import AudioUpload, UploadSession

TUS = "/api/v1/tus/"
MEDIA_TYPE = "application/offset+octet-stream"


def b64(value: bytes | str) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


def metadata(**values: str) -> str:
    return ",".join(f"{key} {b64(value)}" for key, value in values.items())


def header_names(**headers: str) -> dict[str, str]:
    return {name.replace("_", "-").title(): value for name, value in headers.items()}


class Tus:
    """Speaks for a user, by Django's own client."""

    def __init__(self, user: Any = None, *, client: Any = None) -> None:
        self.user = user or UserFactory()
        self.client = client or client_for(self.user)

    def ask(self, method: str, address: str = TUS, data: bytes = b"", **headers: str) -> Any:
        """Say the version, unless ``tus_resumable`` is given; an empty one is left out."""
        said = {"Tus-Resumable": "1.0.0", **header_names(**headers)}
        extra: dict[str, Any] = {"headers": {name: value for name, value in said.items() if value != ""}}
        return self.client.generic(method, address, data, content_type=said.get("Content-Type", ""), **extra)

    def create(self, data: bytes = b"", **headers: str) -> Any:
        headers.setdefault("upload_metadata", metadata(filename="one.mp3"))
        if data:
            headers.setdefault("content_type", MEDIA_TYPE)
        return self.ask("POST", TUS, data, **headers)

    def begin(self, length: int, **headers: str) -> str:
        """A new upload of so many bytes; returns its address."""
        answer = self.create(upload_length=str(length), **headers)
        assert answer.status_code == 201, answer.content
        return str(answer["Location"])

    def partial(self, data: bytes, **headers: str) -> str:
        """A partial upload with these bytes."""
        address = self.begin(len(data), upload_concat="partial", upload_metadata="", **headers)
        if data:
            assert self.patch(address, 0, data).status_code == 204
        return address

    def join(self, *addresses: str, **headers: str) -> Any:
        return self.create(upload_concat="final;" + " ".join(addresses), **headers)

    def patch(self, address: str, offset: int, data: bytes = b"", **headers: str) -> Any:
        headers = {"content_type": MEDIA_TYPE, "content_length": str(len(data)), **headers}
        return self.ask("PATCH", address, data, upload_offset=str(offset), **headers)

    def head(self, address: str) -> Any:
        return self.ask("HEAD", address)

    def delete(self, address: str) -> Any:
        return self.ask("DELETE", address)

    def offset(self, address: str) -> int:
        answer = self.head(address)
        assert answer.status_code == 200
        assert answer["Cache-Control"] == "no-store"
        return int(answer["Upload-Offset"])


def session_at(address: str) -> UploadSession:
    return UploadSession.objects.get(pk=address.rstrip("/").rsplit("/", 1)[-1])


def file_of(answer: Any) -> AudioUpload:
    """The file that an answer names as the one that was made."""
    return AudioUpload.objects.get(pk=answer["Content-Location"].rstrip("/").rsplit("/", 1)[-1])


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def token_client(user: Any, *, scope: str = ApiToken.Scope.FULL) -> Client:
    """Django's client with a token, and as strict about CSRF as for a browser."""
    _, secret = create_token(user, name="tus", expires_in=None, scope=scope)
    return Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {secret}"})
