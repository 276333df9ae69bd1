"""What a file action is. Each one is a class that pages, API, administration and bulk runs share."""

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
    """The result for one file. ``message`` says why the action was refused."""

    upload_id: UUID
    name: str
    done: bool
    message: str = ""

    @classmethod
    def refused(cls, upload: AudioUpload, message: "_StrOrPromise") -> "Outcome":
        return cls(upload.pk, upload.original_filename, done=False, message=str(message))


class FileAction:
    """Something that people do to a file: who may do it, and in which states of the file.

    Both answers are for an offer. The right is required where the action is asked for, and the service behind ``run``
    decides about the state, by a guarded UPDATE.
    """

    name: ClassVar[str]
    right: ClassVar[Right]
    states: ClassVar[frozenset[Status]]
    #: True for files on hold, False for those that are not, None for both.
    legal_hold: ClassVar[bool | None] = None

    def is_allowed(self, user: Person, role: str | None) -> bool:
        """``role`` is the user's own in the file's workspace. None asks for a right in every workspace."""
        return bool(basis_by(user, self.right, role))

    def is_possible(self, *, status: str, legal_hold: bool) -> bool:
        return status in self.states and self.legal_hold in (None, legal_hold)

    def is_offered(self, upload: AudioUpload, user: Person, role: str | None) -> bool:
        possible = self.is_possible(status=upload.status, legal_hold=upload.legal_hold)
        return possible and self.is_allowed(user, role)


class BulkFileAction(FileAction):
    """A file action that needs nothing but the file, and so can be done to many.

    ``question`` and ``done`` are plurals with ``%(count)d``.
    """

    label: ClassVar["_StrOrPromise"]
    question: ClassVar[Any]
    effect: ClassVar["_StrOrPromise"]
    done: ClassVar[Any] = ngettext_lazy("Done: %(count)d file.", "Done: %(count)d files.", "count")
    #: On the page of a file. An action without it is for staff, in the administration.
    button: ClassVar["_StrOrPromise"] = ""
    #: Below a list with ticked files. An action without it is offered file by file.
    list_button: ClassVar["_StrOrPromise"] = ""
    #: The summary of ``POST uploads/{id}/{name}/`` in the API, which has no such endpoint without it.
    api_summary: ClassVar[str] = ""
    #: What the endpoint documents beside the errors of every endpoint.
    api_errors: ClassVar[tuple[int, ...]] = ()
    is_dangerous: ClassVar[bool] = False
    #: On the pages. The administration always asks.
    asks_first: ClassVar[bool] = False
    #: Whether the event log of the file keeps a reason.
    keeps_reason: ClassVar[bool] = False
    #: Reads whole objects: never in a transaction, and never while a person waits.
    reads_object: ClassVar[bool] = False

    def run(self, upload: AudioUpload, *, actor: User | None, reason: str = "") -> None:
        """Do it, or raise a DomainError."""
        raise NotImplementedError

    def apply(self, upload: AudioUpload, *, actor: User | None, reason: str = "") -> Outcome:
        """Do it to one file. A DomainError becomes an outcome with its words."""
        try:
            self.run(upload, actor=actor, reason=reason)
        except DomainError as error:
            return Outcome.refused(upload, error.detail)
        return Outcome(upload.pk, upload.original_filename, done=True)
