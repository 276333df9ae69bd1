"""A file that arrives by HTTP, for API and pages."""

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
    """The body up to the file's first byte, after checks of its sender.

    ``by_session`` requires a CSRF token, in a leading field or header. ``workspace`` (a field or query) is an id or
    slug; default: the user's own. Raises LengthRequired, MalformedBody and similar errors, PermissionDenied, NotFound.
    """
    body = read_body(request)
    if by_session:
        check_csrf(request, body.fields)
    ref = body.fields.get("workspace") or request.GET.get("workspace") or None
    workspace = workspace_for(user, ref, right=Right.ADD_FILES)
    return IncomingFile(body, workspace)


def check_csrf(request: HttpRequest, fields: dict[str, str]) -> None:
    """Django's check with the fields read so far."""
    form = QueryDict(mutable=True)
    form.update(fields)
    request.POST = form  # type: ignore[assignment]
    request._files = MultiValueDict()  # type: ignore[attr-defined]
    SessionAuthentication().enforce_csrf(request)  # type: ignore[arg-type]
