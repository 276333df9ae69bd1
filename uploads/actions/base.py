"""File actions, for pages, API, administration and bulk runs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy, ngettext_lazy

from audiotricks.errors import DomainError
from quotas.rights import Person, Right, basis_by
from uploads.models import AudioUpload, Status

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

NOT_ALLOWED = gettext_lazy("Your role in its workspace does not allow this.")


@dataclass(frozen=True, slots=True)
class Outcome:
    """``message`` says why the action was refused."""

    upload_id: UUID
    name: str
    done: bool
    message: str = ""

    @classmethod
    def refused(cls, upload: AudioUpload, message: "_StrOrPromise") -> "Outcome":
        return cls(upload.pk, upload.original_filename, done=False, message=str(message))


class FileAction:
    """Something that people do to a file.

    ``is_allowed`` and the states only decide about an offer: the view requires the right, and ``run`` checks the state
    in a guarded UPDATE.
    """

    name: ClassVar[str]
    right: ClassVar[Right]
    states: ClassVar[frozenset[Status]]
    #: True: only files on hold; False: only others; None: both.
    legal_hold: ClassVar[bool | None] = None

    def is_allowed(self, user: Person, role: str | None) -> bool:
        """``role`` is the user's in the file's workspace; None requires a right everywhere."""
        return bool(basis_by(user, self.right, role))

    def is_possible(self, *, status: str, legal_hold: bool) -> bool:
        return status in self.states and self.legal_hold in (None, legal_hold)

    def is_offered(self, upload: AudioUpload, user: Person, role: str | None) -> bool:
        possible = self.is_possible(status=upload.status, legal_hold=upload.legal_hold)
        return possible and self.is_allowed(user, role)


class BulkFileAction(FileAction):
    """Needs only the file. ``question`` and ``done`` are plurals with ``%(count)d``."""

    label: ClassVar["_StrOrPromise"]
    question: ClassVar[Any]
    effect: ClassVar["_StrOrPromise"]
    done: ClassVar[Any] = ngettext_lazy("Done: %(count)d file.", "Done: %(count)d files.", "count")
    #: The label on the file's page. Without one, only the administration offers the action.
    button: ClassVar["_StrOrPromise"] = ""
    #: The label below a list with ticked files. Without one, the action is offered for single files.
    list_button: ClassVar["_StrOrPromise"] = ""
    #: The summary of ``POST uploads/{id}/{name}/``. Without one, there is no such endpoint.
    api_summary: ClassVar[str] = ""
    #: Further statuses that the endpoint documents.
    api_errors: ClassVar[tuple[int, ...]] = ()
    is_dangerous: ClassVar[bool] = False
    #: Whether pages ask first. The administration always does.
    asks_first: ClassVar[bool] = False
    #: Whether the event log keeps a reason.
    keeps_reason: ClassVar[bool] = False
    #: Reads whole objects, so it runs outside transactions and requests.
    reads_object: ClassVar[bool] = False

    def run(self, upload: AudioUpload, *, actor: User | None, reason: str = "") -> None:
        """Raises DomainError."""
        raise NotImplementedError

    def apply(self, upload: AudioUpload, *, actor: User | None, reason: str = "") -> Outcome:
        """A DomainError becomes an outcome."""
        try:
            self.run(upload, actor=actor, reason=reason)
        except DomainError as error:
            return Outcome.refused(upload, error.detail)
        return Outcome(upload.pk, upload.original_filename, done=True)
