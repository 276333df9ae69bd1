"""A file that comes by HTTP: who sends it, for which workspace, and then its bytes. For the API and the pages alike."""

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.http import HttpRequest, QueryDict
from django.utils.datastructures import MultiValueDict
from rest_framework.authentication import SessionAuthentication

from quotas.models import Workspace
from quotas.rights import Right
from quotas.workspaces import workspace_for
from uploads.intake.http.bodies import MultipartBody, RawBody, read_body


@dataclass(frozen=True, slots=True)
class IncomingFile:
    body: RawBody | MultipartBody
    workspace: Workspace


def incoming_file(request: HttpRequest, user: User, *, by_session: bool) -> IncomingFile:
    """The request's body up to the file's first byte, once its sender is known to be allowed to send it.

    ``by_session`` asks for a CSRF token, in front of the file or as a header. The workspace is the field ``workspace``
    (or the query's), by id or slug; without one, the user's own.

    Raises LengthRequired, MalformedBody and their like, PermissionDenied, NotFound.
    """
    body = read_body(request)
    if by_session:
        check_csrf(request, body.fields)
    ref = body.fields.get("workspace") or request.GET.get("workspace") or None
    workspace = workspace_for(user, ref, right=Right.ADD_FILES)
    return IncomingFile(body, workspace)


def check_csrf(request: HttpRequest, fields: dict[str, str]) -> None:
    """Django's own check, against the fields that were read so far: it must not parse the body."""
    form = QueryDict(mutable=True)
    form.update(fields)
    request.POST = form  # type: ignore[assignment]
    request._files = MultiValueDict()  # type: ignore[attr-defined]
    SessionAuthentication().enforce_csrf(request)  # type: ignore[arg-type]
