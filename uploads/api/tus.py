"""tus 1.0.0 (https://tus.io/protocols/resumable-upload) over the upload sessions."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit
from uuid import UUID

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve
from django.utils.http import http_date
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from accounts.authentication import TokenAuthentication
from audiotricks.errors import DomainError, Invalid, NotFound
from audiotricks.web.problems import problem_from
from audiotricks.web.streaming import streams
from audiotricks.web.users import user_of
from objectstore import default_alias, get_storage
from quotas.models import Workspace
from quotas.rights import Right
from quotas.workspaces import workspace_for
from uploads.api.negotiation import OneTypeOnly
from uploads.api.posting import StreamSessionAuthentication
from uploads.intake.arrivals import UploadTakenBack
from uploads.intake.http.bodies import RequestBody, content_length, sha256_of_digest
from uploads.intake.http.incoming import check_csrf
from uploads.intake.http.tus_headers import (
    CHECKSUMS,
    FINAL,
    PARTIAL,
    declared_length,
    format_metadata,
    metadata_text,
    parse_checksum,
    parse_concat,
    parse_metadata,
    upload_offset,
)
from uploads.intake.sessions.begin import begin_session
from uploads.intake.sessions.complete import end_session, offset_to_tell
from uploads.intake.sessions.concatenate import concatenate
from uploads.intake.sessions.errors import (
    ChecksumMismatch,
    NotConcatenable,
    SessionEnded,
    SessionLocked,
    UploadTooLong,
)
from uploads.intake.sessions.find import session_for
from uploads.intake.sessions.receive import receive
from uploads.models import UploadSession

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination,concatenation"
MEDIA_TYPE = "application/offset+octet-stream"
OVERRIDE = "X-HTTP-Method-Override"
SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
KIND = UploadSession.Kind.TUS


class TusVersionUnsupported(DomainError):
    code = "tus_version_unsupported"
    status = 412
    title = _("Send Tus-Resumable: 1.0.0, the version of tus that is spoken here")


class TusMediaTypeUnsupported(DomainError):
    code = "tus_media_type_unsupported"
    status = 415
    title = _("Send the bytes as application/offset+octet-stream")


def header(name: str, description: str = "", *, required: bool = False, **schema: Any) -> OpenApiParameter:
    schema = {"type": "string", **schema}
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, required=required, description=description)


NUMBER = r"^[0-9]{1,18}$"
RESUMABLE = header("Tus-Resumable", "412 without it.", required=True, enum=[VERSION])
CHECKSUM = header("Upload-Checksum", "`sha1`, `md5` or `sha256`, a space, and the checksum of this body in Base64.")
BODY = {MEDIA_TYPE: {"type": "string", "format": "binary"}}


class TusView(APIView):
    authentication_classes = [TokenAuthentication, StreamSessionAuthentication]
    content_negotiation_class = OneTypeOnly
    # The body is never parsed.
    parser_classes = []

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method == "POST" and (method := request.headers.get(OVERRIDE)):
            request.method = method.upper()
        return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method == "OPTIONS":
            return
        if request.headers.get("Tus-Resumable") != VERSION:
            raise TusVersionUnsupported
        super().initial(request, *args, **kwargs)
        if request.method != "HEAD" and isinstance(request.successful_authenticator, SessionAuthentication):
            check_csrf(request._request, {})

    def handle_exception(self, exc: Exception) -> Any:
        if isinstance(exc, UploadTakenBack):
            # A client asks again after a 409 for ever.
            exc = SessionEnded(exc.detail)
        if self.request.method == "HEAD":
            problem = problem_from(exc)
            if problem and (problem.status >= 500 or problem.status == status.HTTP_429_TOO_MANY_REQUESTS):
                # Any other answer would make clients begin a new upload.
                exc = SessionLocked()
        response = super().handle_exception(exc)
        if isinstance(exc, TusVersionUnsupported):
            response["Tus-Version"] = VERSION
        members = exc.members if isinstance(exc, DomainError) else {}
        if "offset" in members:
            response["Upload-Offset"] = str(members["offset"])
        if "session" in members:
            response["Location"] = self.address_of(members["session"])
        return response

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Tus-Resumable"] = VERSION
        response["Cache-Control"] = "no-store"
        return response

    @extend_schema(exclude=True)
    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        parts = get_storage(default_alias()).parts
        headers = {
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
        }
        if parts is not None:
            headers["Tus-Max-Size"] = str(parts.most_bytes)
        return Response(status=status.HTTP_204_NO_CONTENT, headers=headers)

    def address_of(self, pk: Any) -> str:
        return reverse("tus-upload", args=[pk], request=self.request)

    def state_of(self, session: UploadSession) -> dict[str, str]:
        """Headers that say when an open session expires and which file a completed one became."""
        if session.state == UploadSession.State.OPEN:
            return {"Upload-Expires": http_date(session.expires_at.timestamp())}
        if session.upload_id:
            return {"Content-Location": reverse("upload-detail", args=[session.upload_id], request=self.request)}
        return {}

    def checksum_of(self, request: Request, length: int) -> tuple[str, bytes] | None:
        """Of the body, by Upload-Checksum. Raises ChecksumMismatch where nothing can be read that would be right."""
        checksum = parse_checksum(request.headers.get("Upload-Checksum"))
        if checksum and not length and hashlib.new(checksum[0], usedforsecurity=False).digest() != checksum[1]:
            raise ChecksumMismatch
        return checksum

    def body_of(self, request: Request, length: int) -> RequestBody:
        if length and request._request.content_type != MEDIA_TYPE:
            raise TusMediaTypeUnsupported
        return RequestBody(request._request, length)


class TusCreationView(TusView):
    @extend_schema(
        summary="tus: begin a resumable upload",
        description="[tus 1.0.0](https://tus.io/protocols/resumable-upload) with the extensions "
        f"`{EXTENSIONS}`. `Location` of the answer takes HEAD, PATCH and DELETE. A body is the beginning of the file. "
        "The keys of `Upload-Metadata` are `filename`, `workspace`, `sha256` and `filetype`; the others are kept.",
        parameters=[
            RESUMABLE,
            header("Upload-Length", "Bytes of the whole file.", pattern=NUMBER),
            header("Upload-Defer-Length", "Instead of `Upload-Length`, which a PATCH tells later.", enum=["1"]),
            header("Upload-Metadata"),
            header("Upload-Concat", "`partial`, or `final;` and the addresses of partial uploads."),
            CHECKSUM,
            OpenApiParameter("workspace", str, description="Id or slug; yours, if left out."),
        ],
        request=BODY,
        responses={201: None, **dict.fromkeys((404, 412, 423, 460, 507))},
    )
    @streams
    def post(self, request: Request) -> Response:
        headers = request.headers
        has_body = "Content-Length" in headers or "Transfer-Encoding" in headers
        length = content_length(request._request) if has_body else 0
        is_partial, partials = parse_concat(headers.get("Upload-Concat"))
        metadata = parse_metadata(headers.get("Upload-Metadata"))
        filename = metadata_text(metadata, "filename", "name")
        sha256 = self.sha256_of(metadata_text(metadata, "sha256"))
        if partials is not None:
            return self.concatenated(partials, metadata, filename=filename, sha256=sha256, length=length)
        size = declared_length(headers.get("Upload-Length"), headers.get("Upload-Defer-Length"))
        checksum = self.checksum_of(request, length)
        body = self.body_of(request, length)
        if size is not None and length > size:
            raise UploadTooLong(expected=size, received=length)
        session = begin_session(
            KIND,
            workspace=self.workspace_of(metadata),
            owner=user_of(request),
            filename=filename,
            size_bytes=size,
            sha256=sha256,
            is_partial=is_partial,
            client_metadata=metadata,
        )
        if length:
            try:
                session = receive(session, body, offset=0, length=length, actor=user_of(request), checksum=checksum)
            except ChecksumMismatch:
                # The client begins anew; nobody knows this one's address.
                end_session(session, ChecksumMismatch.code)
                raise
        answer = {"Location": self.address_of(session.pk), **self.state_of(session)}
        if length:
            answer["Upload-Offset"] = str(session.received_bytes)
        return Response(status=status.HTTP_201_CREATED, headers=answer)

    def concatenated(
        self, partials: Sequence[str], metadata: dict[str, str], *, filename: str, sha256: str, length: int
    ) -> Response:
        if length or "Upload-Length" in self.request.headers:
            raise NotConcatenable(_("A final upload has neither a body nor Upload-Length: its partial uploads have."))
        user = user_of(self.request)
        try:
            sessions = [session_for(user, KIND, self.session_at(address)) for address in partials]
        except (NotFound, SessionEnded) as error:
            raise NotConcatenable from error
        if not sessions:
            raise NotConcatenable
        in_workspace = self.workspace_of(metadata, default=sessions[0].workspace)
        session, _is_new = concatenate(
            sessions,
            workspace=in_workspace,
            owner=user,
            filename=filename,
            sha256=sha256,
            client_metadata=metadata,
        )
        answer = {
            "Location": self.address_of(session.pk),
            "Upload-Offset": str(session.received_bytes),
            "Upload-Length": str(session.size_bytes),
        }
        return Response(status=status.HTTP_201_CREATED, headers=answer | self.state_of(session))

    def session_at(self, address: str) -> UUID:
        """The id in an address, absolute or relative to this one. Raises NotFound for any other address."""
        try:
            parts = urlsplit(urljoin(self.request.build_absolute_uri(), address))
            found = resolve(parts.path)
        except (ValueError, Resolver404):
            raise NotFound from None
        is_here = parts.scheme in ("http", "https") and parts.netloc.lower() == self.request.get_host().lower()
        if not is_here or found.view_name != "tus-upload":
            raise NotFound
        return UUID(str(found.kwargs["pk"]))

    def workspace_of(self, metadata: dict[str, str], *, default: Workspace | None = None) -> Workspace:
        """Raises Invalid where the query and the metadata name different workspaces."""
        named = [self.request.query_params.get("workspace"), metadata_text(metadata, "workspace")]
        found = [workspace_for(self.request.user, ref, right=Right.ADD_FILES) for ref in named if ref]
        if len({workspace.pk for workspace in found}) > 1:
            raise Invalid(
                _("The address and Upload-Metadata name different workspaces."),
                errors={"workspace": [_("Name it once.")]},
            )
        if found:
            return found[0]
        return default or workspace_for(self.request.user, None, right=Right.ADD_FILES)

    def sha256_of(self, told: str) -> str:
        """The whole file's SHA-256 by the metadata or Repr-Digest, in lower case; empty without one."""
        if told and not SHA256.fullmatch(told):
            raise Invalid(_("A SHA-256 has 64 hexadecimal digits."), errors={"sha256": [_("64 hexadecimal digits.")]})
        digest = sha256_of_digest(self.request.headers.get("Repr-Digest"))
        if told and digest and told.lower() != digest:
            raise Invalid(
                _("Repr-Digest and Upload-Metadata name different checksums."), errors={"sha256": [_("Name it once.")]}
            )
        return told.lower() or digest or ""


class TusUploadView(TusView):
    def head(self, request: Request, pk: UUID) -> Response:
        user = user_of(request)
        session = offset_to_tell(session_for(user, KIND, pk), actor=user)
        headers = {"Upload-Offset": str(session.received_bytes), **self.state_of(session)}
        if session.size_bytes is None:
            headers["Upload-Defer-Length"] = "1"
        else:
            headers["Upload-Length"] = str(session.size_bytes)
        if session.client_metadata:
            headers["Upload-Metadata"] = format_metadata(dict(session.client_metadata))
        if concat := self.concat_of(session):
            headers["Upload-Concat"] = concat
        return Response(headers=headers)

    def concat_of(self, session: UploadSession) -> str:
        if session.is_partial:
            return PARTIAL
        partials = session.partials.order_by("final_place").values_list("pk", flat=True)
        addresses = " ".join(map(self.address_of, partials))
        return FINAL + addresses if addresses else ""

    @extend_schema(
        summary="tus: send bytes of a resumable upload",
        description="204 with the new `Upload-Offset`; the last bytes bring `Content-Location`, the address of the "
        "file. 409 tells the right `Upload-Offset`; 423: somebody else is writing, ask again; 460: the checksum is "
        "wrong and nothing was kept. After a broken connection HEAD tells where to go on.",
        parameters=[
            RESUMABLE,
            header("Upload-Offset", "Where in the file the body begins.", required=True, pattern=NUMBER),
            header("Upload-Length", "Bytes of the whole file, where that was left open.", pattern=NUMBER),
            CHECKSUM,
            header("Repr-Digest", "`sha-256=:BASE64:` of the whole file; the file is refused if it is another."),
        ],
        request=BODY,
        responses={204: None, **dict.fromkeys((410, 412, 423, 460, 507))},
    )
    @streams
    def patch(self, request: Request, pk: UUID) -> Response:
        headers = request.headers
        user = user_of(request)
        session = session_for(user, KIND, pk)
        if request._request.content_type != MEDIA_TYPE:
            raise TusMediaTypeUnsupported
        length = content_length(request._request)
        offset = upload_offset(headers.get("Upload-Offset"))
        checksum = self.checksum_of(request, length)
        sha256 = sha256_of_digest(headers.get("Repr-Digest"))
        size = declared_length(headers["Upload-Length"], None) if "Upload-Length" in headers else None
        session = receive(
            session,
            self.body_of(request, length),
            offset=offset,
            length=length,
            actor=user,
            checksum=checksum,
            size_bytes=size,
            sha256=sha256 or "",
        )
        answer = {"Upload-Offset": str(session.received_bytes), **self.state_of(session)}
        return Response(status=status.HTTP_204_NO_CONTENT, headers=answer)

    @extend_schema(
        summary="tus: give a resumable upload up",
        description="What was sent is removed and its room given back. 409 for a file that has arrived already.",
        parameters=[RESUMABLE],
        responses={204: None, **dict.fromkeys((410, 412, 423))},
    )
    def delete(self, request: Request, pk: UUID) -> Response:
        end_session(session_for(user_of(request), KIND, pk, to_end=True), "upload_terminated")
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        operation_id="tus_override",
        summary="tus: PATCH, HEAD or DELETE for clients that can send none of them",
        description=f"`{OVERRIDE}` names the method.",
        parameters=[RESUMABLE, header(OVERRIDE, required=True, enum=["PATCH", "HEAD", "DELETE"])],
        request=BODY,
        responses={200: None, 204: None, **dict.fromkeys((405, 410, 412, 423, 460, 507))},
    )
    @streams
    def post(self, request: Request, pk: UUID) -> NoReturn:
        session_for(user_of(request), KIND, pk)
        raise MethodNotAllowed("POST")
