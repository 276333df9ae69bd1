"""What the log says of files and those who send them."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from rest_framework.test import APIClient
from structlog.stdlib import ProcessorFormatter

from accounts.tokens import create_token
from audiotricks.running import logs
from quotas.models import Workspace
from tests.audio import make_mp3
from tests.factories import member_of

pytestmark = pytest.mark.django_db
FORGED = 'a.mp3\r\n{"event": "forged"}\n2026-01-01T00:00:00Z [info] forged\u2028\x1b[2J.mp3'


@pytest.fixture(params=["json", "text"])
def written(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = [handler for handler in root.handlers if isinstance(handler.formatter, ProcessorFormatter)]
    stream = io.StringIO()
    logs.configure({"level": "INFO", "format": request.param})
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream)
    yield stream
    for handler in [handler for handler in root.handlers if isinstance(handler.formatter, ProcessorFormatter)]:
        root.removeHandler(handler)
    for handler in before:
        root.addHandler(handler)


def test_an_upload_with_a_forged_name_gives_whole_lines_with_its_ids(
    written: io.StringIO, workspace: Workspace
) -> None:
    """Promise 49. In the name, the workspace, a query and a path; the token is on no line."""
    _, secret = create_token(member_of(workspace), name=FORGED, expires_in=None)
    outside_of_requests = len(written.getvalue().splitlines())
    client = APIClient()
    headers = {"Authorization": f"Bearer {secret}", "X-Request-ID": "request-1"}
    named = "attachment; filename*=UTF-8''" + "".join(f"%{byte:02X}" for byte in FORGED.encode())
    answer = client.generic(
        "POST",
        f"/api/v1/uploads/?workspace={workspace.slug}&signature={secret}",
        make_mp3(),
        "application/octet-stream",
        headers={**headers, "Content-Disposition": named},
    )
    assert answer.status_code == 201, answer.content
    client.patch(f"/api/v1/uploads/{answer.json()['id']}/", {"original_filename": FORGED}, headers=headers)
    client.get("/api/v1/uploads/", {"q": FORGED, "workspace": FORGED}, headers=headers)
    client.get("/api/v1/x%0D%0Aforged%E2%80%A8/", headers=headers)

    text = written.getvalue()
    lines = text.splitlines()
    assert text.count("\n") == len(lines) >= 5
    assert all(line.isprintable() for line in lines)
    assert all("request-1" in line for line in lines[outside_of_requests:])
    assert not [line for line in lines if line.startswith(('{"event": "forged"', "2026-01-01"))]
    assert secret not in text and secret[:8] not in text
    (uploaded,) = [line for line in lines if "audio_uploaded" in line]
    assert answer.json()["id"] in uploaded
    if uploaded.startswith("{"):
        assert json.loads(uploaded)["upload_id"] == answer.json()["id"]
