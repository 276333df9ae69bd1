"""Requests made up from the OpenAPI document, good ones and bad ones, over real data: never a 5xx."""

from importlib import import_module
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts.tokens import create_token
from objectstore import default_alias
from quotas.models import Membership
from tests.api.rows import store_session, store_thumbnail, store_upload
from tests.audio import make_jpeg, make_mp3
from tests.factories import MembershipFactory, UserFactory
from uploads.intake.sessions.begin import begin_session
from uploads.intake.sessions.chunks import begin_chunks
from uploads.models import AudioUpload, Status, UploadSession
from uploads.objects.marks import ensure_ours

BOUNDED = settings(
    max_examples=12,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OF_AUDIO = (
    *("POST /api/v1/uploads/", "POST /api/v1/direct-uploads/", "POST /api/v1/chunked-uploads/", "POST /api/v1/tus/"),
    *("PATCH /api/v1/tus/{id}", "POST /api/v1/tus/{id}", "PUT /api/v1/chunked-uploads/{id}/chunks/{index}/"),
)


class House:
    """An editor with a token, in a workspace with a file in every state that matters; made anew after each change."""

    def __init__(self) -> None:
        UploadSession.objects.all().delete()
        AudioUpload.objects.all().delete()
        self.editor = UserFactory()
        self.workspace = MembershipFactory(user=self.editor, role=Membership.Role.EDITOR).workspace
        owned = MembershipFactory(user=self.editor).workspace
        self.members = [self.editor.pk, MembershipFactory(workspace=owned).user.pk, UserFactory().pk]
        uploads = [
            store_upload(workspace, status=status, owner=self.editor)
            for workspace in (self.workspace, owned)
            for status in (Status.COMPLETED, Status.DELETED, Status.FAILED, Status.ARCHIVED)
        ]
        store_thumbnail(uploads[0], make_jpeg())
        _, self.secret = create_token(self.editor, name="fuzzing", expires_in=None)
        other, _ = create_token(self.editor, name="other", expires_in=None)
        receiving = store_upload(self.workspace, status=Status.RECEIVING, owner=self.editor)
        ours = {"workspace": self.workspace, "owner": self.editor, "filename": "a.mp3", "size_bytes": 10}
        self.ids = {
            "tus": [begin_session(UploadSession.Kind.TUS, **ours).pk for _ in range(3)],
            "chunked-uploads": [begin_chunks(**ours, chunk_size=4).pk for _ in range(3)],
            "direct-uploads": [store_session(upload).pk for upload in (uploads[0], receiving)],
            "uploads": [upload.pk for upload in uploads],
            "workspaces": [self.workspace.pk, owned.pk],
            "tokens": [other.pk],
        }

    def real(self, path: str) -> st.SearchStrategy[dict[str, Any]]:
        """Values for the path's parameters that lead somewhere, or nothing, for what the document makes up."""
        kind = next((kind for kind in self.ids if kind in path), "workspaces")
        values: dict[str, Any] = {"id": st.sampled_from([str(pk) for pk in self.ids[kind]])}
        values["user_id"] = st.sampled_from(self.members)
        values["index"] = st.sampled_from([0, 1, 2, 3])
        return st.fixed_dictionaries({}, optional=values) | st.fixed_dictionaries(values)


@pytest.fixture
def document(transactional_db: None) -> Any:
    load_all_checks()
    schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
    # The requests leave objects whose rows go: the empty storage is known as ours before.
    ensure_ours(default_alias())
    application = import_module("audiotricks.wsgi").application

    def server(environ: Any, start_response: Any) -> list[bytes]:
        """Read to its end and closed, as a server does."""
        answer = application(environ, start_response)
        try:
            return [b"".join(answer)]
        finally:
            answer.close()

    return schemathesis.openapi.from_wsgi("/api/schema/", server)


def fuzz(operation: Any, house: House, mode: GenerationMode) -> set[int]:
    """The statuses that were met."""
    met: set[int] = set()

    @seed(53)
    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=mode), real=house.real(operation.path))
    def send(case: Any, real: dict[str, Any]) -> None:
        case.path_parameters = {**(case.path_parameters or {}), **real}
        response = case.call(headers={"Authorization": f"Bearer {house.secret}"})
        met.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    send()
    return met


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["good", "bad"])
def test_no_request_of_the_document_gives_a_5xx_or_an_answer_that_it_does_not_tell_of(
    document: Any, mode: GenerationMode
) -> None:
    """Promise 53. Status, media type, headers and body are those of the document, for an editor over real files."""
    met: dict[str, set[int]] = {}
    house = House()
    for found in document.get_all_operations():
        operation = found.ok()
        met[operation.label] = fuzz(operation, house, mode)
        if operation.method.upper() != "GET":
            house = House()
    for label, statuses in met.items():
        assert 401 not in statuses, label
        # What the document makes up is no audio, nor called so but by chance: see the next test.
        if mode == GenerationMode.POSITIVE and label not in OF_AUDIO:
            assert statuses & {200, 201, 204, 304, 403, 409}, label


def test_no_upload_of_real_audio_with_made_up_headers_gives_a_5xx(document: Any) -> None:
    """Promise 53. What the document makes up is never audio; here the file is, and everything around it is made up."""
    operation = document["/api/v1/uploads/"]["POST"]
    house = House()
    held = AudioUpload.objects.count()

    @seed(53)
    @BOUNDED
    @given(
        case=operation.as_strategy(),
        name=st.text(min_size=1, max_size=30),
        query=st.fixed_dictionaries({}, optional={"workspace": st.sampled_from([house.workspace.slug, "", "no-such"])}),
    )
    def send(case: Any, name: str, query: dict[str, str]) -> None:
        case.media_type, case.body = "application/octet-stream", make_mp3()
        case.query = {**(case.query or {}), **query}
        disposition = f"attachment; filename*=UTF-8''{quote(name, errors='replace')}.mp3"
        response = case.call(headers={"Authorization": f"Bearer {house.secret}", "Content-Disposition": disposition})
        case.validate_response(response, checks=CHECKS)

    send()
    assert AudioUpload.objects.count() > held
