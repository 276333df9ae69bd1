"""Events as sentences. ``uploads.apps`` declares them, so nothing here imports a model."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audiotricks.errors import catalogue
from audiotricks.plug import Words, declared

if TYPE_CHECKING:
    from uploads.models import UploadEvent

#: For a person; and for AudioTricks itself or a removed account.
Pair = tuple[Words, Words]


def describe(event: "UploadEvent") -> str:
    """With the reason, if any."""
    words = dict(declared(lambda app: app.event_sentences.items())).get(event.action)
    if words is None:
        sentence = event.action.replace("_", " ")
    else:
        sentence = words(event) if callable(words) else _one_of(words, event)
    if not event.reason:
        return sentence
    return _("%(sentence)s Reason: %(reason)s") % {"sentence": sentence, "reason": event.reason}


def why_it_failed(code: str) -> str:
    """From the catalogue of errors."""
    status_and_title = catalogue().get(code)
    return status_and_title[1] if status_and_title else _("Something unexpected went wrong")


def _one_of(sentences: Pair, event: "UploadEvent") -> str:
    by_a_person, by_itself = sentences
    return str(by_a_person) % {"actor": event.actor} if event.actor else str(by_itself)


def _failed(event: "UploadEvent") -> str:
    return _("Processing failed: %(why)s.") % {"why": why_it_failed(event.details.get("error_code", ""))}


def _renamed(event: "UploadEvent") -> str:
    names: dict[str, Any] = {"before": event.details.get("from", ""), "name": event.details.get("to", "")}
    if event.actor:
        return _("%(actor)s renamed the file from “%(before)s” to “%(name)s”.") % {"actor": event.actor, **names}
    return _("The file was renamed from “%(before)s” to “%(name)s”.") % names


def _moved(event: "UploadEvent") -> str:
    places = {"before": event.details.get("from", ""), "after": event.details.get("to", "")}
    return _("The file was moved from the storage “%(before)s” to the storage “%(after)s”.") % places


def _step_done(event: "UploadEvent") -> str:
    step = event.details.get("step", "")
    steps = dict(declared(lambda app: app.processing_steps.items()))
    if step in steps:
        return str(steps[step].done)
    return _("Step done: %(step)s.") % {"step": step.rsplit(".", 1)[-1].replace("_", " ")}


def _processing(event: "UploadEvent") -> str:
    if "duplicate_of" in event.details:
        return _("Processing began. The workspace has the same content already, so it is stored only once.")
    return _one_of((gettext_lazy("%(actor)s had processing begin."), gettext_lazy("Processing began.")), event)


def _storage_class_changed(event: "UploadEvent") -> str:
    classes = {"before": event.details.get("from", ""), "now": event.details.get("to", "")}
    return _("The storage's provider moved the file from class “%(before)s” to class “%(now)s”.") % classes


SENTENCES: dict[str, Pair | Callable[["UploadEvent"], str]] = {
    "uploaded": (gettext_lazy("%(actor)s uploaded the file."), gettext_lazy("The file was uploaded.")),
    "validating": (gettext_lazy("%(actor)s had the check begin."), gettext_lazy("The check began.")),
    "processing": _processing,
    "completed": (gettext_lazy("%(actor)s completed the file."), gettext_lazy("The file is ready.")),
    "taken_back": (
        gettext_lazy("%(actor)s put the file back in the queue."),
        gettext_lazy("The file was put back in the queue, to be tried again."),
    ),
    "retried": (gettext_lazy("%(actor)s asked for another try."), gettext_lazy("The file was tried again.")),
    "deleted": (
        gettext_lazy("%(actor)s moved the file to the trash."),
        gettext_lazy("The file was moved to the trash."),
    ),
    "undeleted": (
        gettext_lazy("%(actor)s took the file out of the trash."),
        gettext_lazy("The file was taken out of the trash."),
    ),
    "purged": (gettext_lazy("%(actor)s deleted the file for good."), gettext_lazy("The file was deleted for good.")),
    "displaced": (
        gettext_lazy("%(actor)s deleted the file for good: the trash was full."),
        gettext_lazy("The file was deleted for good: the trash was full, and it had been there longest."),
    ),
    "held": (gettext_lazy("%(actor)s put the file on hold."), gettext_lazy("The file was put on hold.")),
    "released": (gettext_lazy("%(actor)s released the file from hold."), gettext_lazy("The file was released.")),
    "thumbnail_set": (gettext_lazy("%(actor)s set the picture."), gettext_lazy("The picture was set.")),
    "thumbnail_removed": (gettext_lazy("%(actor)s removed the picture."), gettext_lazy("The picture was removed.")),
    "verified": (
        gettext_lazy("%(actor)s had the stored bytes checked: they are whole."),
        gettext_lazy("The stored bytes were checked: they are whole."),
    ),
    "described_again": (
        gettext_lazy("%(actor)s had length, codec and tags read once more."),
        gettext_lazy("Length, codec and tags were read once more."),
    ),
    "found_missing": (
        gettext_lazy("%(actor)s had the stored bytes checked: they are missing."),
        gettext_lazy("The stored bytes were checked: they are missing."),
    ),
    "found_damaged": (
        gettext_lazy("%(actor)s had the stored bytes checked: they are damaged."),
        gettext_lazy("The stored bytes were checked: they are damaged."),
    ),
    "object_replaced": (
        gettext_lazy("%(actor)s had missing or damaged bytes replaced by a whole copy of the same content."),
        gettext_lazy("Missing or damaged bytes were replaced by a whole copy of the same content."),
    ),
    "found_archived": (
        gettext_lazy("%(actor)s had the stored bytes checked: they lie in an archive and cannot be read."),
        gettext_lazy("A rule of the storage's provider moved the file into an archive, where it cannot be read."),
    ),
    "failed": _failed,
    "moved": _moved,
    "renamed": _renamed,
    "step_done": _step_done,
    "storage_class_changed": _storage_class_changed,
}
