"""A client of direct uploads: it sends what it is told to, where it is told to, and knows no provider."""

import io
import random
import wave
from collections.abc import Iterator
from typing import Any

import requests

from objectstore.base import AudioStorage
from tests.object_servers.fixtures import configure

DIRECT = "/api/v1/direct-uploads/"
MEBIBYTE = 1024**2


def use_storage(alias: str, request: Any, settings: Any) -> AudioStorage:
    """Let new files go to an empty bucket of this server."""
    storage = configure(settings, request.getfixturevalue(f"{alias}_server"))
    settings.AUDIO_STORAGE = alias
    return storage


def noise(size_bytes: int, *, seed: int = 0) -> bytes:
    """A WAV file of about that size, which no part of it resembles."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(44_100)
        writer.writeframes(random.Random(seed).randbytes(size_bytes // 2 * 2))
    return file.getvalue()


def begin(client: Any, data: bytes, filename: str = "tone.wav", **fields: Any) -> dict[str, Any]:
    answer = client.post(DIRECT, {"filename": filename, "file_size": len(data), **fields}, format="json")
    assert answer.status_code == 201, answer.content
    session: dict[str, Any] = answer.json()
    return session


def send(session: dict[str, Any], data: bytes) -> None:
    for asked in session["requests"]:
        send_one(asked, data)


def send_one(asked: dict[str, Any], data: bytes) -> None:
    answer = put(asked, data[asked["first_byte"] : asked["first_byte"] + asked["size"]])
    assert answer.ok, answer.text


def put(asked: dict[str, Any], body: bytes) -> requests.Response:
    with requests.Session() as http:
        return http.request(asked["method"], asked["url"], headers=asked["headers"], data=body, timeout=30)


def complete(client: Any, session: dict[str, Any], **headers: str) -> Any:
    return client.post(f"{DIRECT}{session['id']}/complete/", headers=headers)


def held_by(storage: AudioStorage) -> Iterator[str]:
    return (stat.name for stat in storage.list() if not stat.name.startswith("vault/"))
