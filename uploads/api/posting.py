"""A file sent to the API, with Idempotency-Key."""

from collections.abc import Callable
from typing import Any

from drf_spectacular.authentication import SessionScheme
from drf_spectacular.openapi import AutoSchema
from rest_framework import status
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from audiotricks.api.idempotency import answer_once, fingerprint
from audiotricks.web.users import user_of
from objectstore.hashing import digest_of
from uploads.intake.http.bodies import sha256_of_digest
from uploads.intake.http.incoming import IncomingFile, incoming_file
from uploads.intake.ingest import ingest_audio
from uploads.models import AudioUpload


class StreamSessionAuthentication(SessionAuthentication):
    """``incoming_file`` checks the CSRF token."""

    def enforce_csrf(self, request: Request) -> None:
        return


class StreamSessionScheme(SessionScheme):  # type: ignore[no-untyped-call]
    target_class = "uploads.api.posting.StreamSessionAuthentication"
    name = "cookieAuthOfForm"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        words = "The session, with the CSRF token in X-CSRFToken or in the field csrfmiddlewaretoken before the file."
        session: dict[str, Any] = super().get_security_definition(auto_schema)  # type: ignore[no-untyped-call]
        return {**session, "description": words}


def post_upload(request: Request, *, describe: Callable[[AudioUpload], Any]) -> Response:
    """201 with the result of ``describe``; a repeated request gets the stored response. Raises the errors of
    :func:`uploads.intake.http.incoming.incoming_file`, :func:`audiotricks.api.idempotency.answer_once` and
    :func:`uploads.intake.ingest.ingest_audio`.
    """
    by_session = isinstance(request.successful_authenticator, SessionAuthentication)
    incoming = incoming_file(request._request, user_of(request), by_session=by_session)
    answers: list[Response] = []
    arrived: list[str] = []

    def mark() -> str:
        # A repeated request is read to its end, since only the content shows whether it is the same.
        sha256 = arrived[0] if arrived else digest_of(incoming.body.chunks()).sha256
        return _fingerprint(request, incoming, sha256)

    def store(keep: Callable[[Response], None]) -> Response:
        def on_stored(upload: AudioUpload) -> None:
            arrived.append(upload.checksum_sha256)
            location = {"Location": reverse("upload-detail", args=[upload.pk], request=request)}
            answers.append(Response(describe(upload), status=status.HTTP_201_CREATED, headers=location))
            keep(answers[-1])

        ingest_audio(
            incoming.body,
            workspace=incoming.workspace,
            owner=user_of(request),
            door="api",
            expected_sha256=sha256_of_digest(request.headers.get("Repr-Digest")),
            on_stored=on_stored,
        )
        return answers[-1]

    return answer_once(request, store, mark=mark)


def _fingerprint(request: Request, incoming: IncomingFile, sha256: str) -> str:
    body = incoming.body
    fields = {name: value for name, value in body.fields.items() if name != "csrfmiddlewaretoken"}
    files = {"file": (body.filename, sha256)}
    if body.thumbnail:
        files["thumbnail"] = ("", digest_of([body.thumbnail]).sha256)
    return fingerprint(request.user, "POST", request.get_full_path(), fields, files)
