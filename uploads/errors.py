"""Errors of stored files and of their processing: faults of the server, never of the client."""

from django.utils.translation import gettext_lazy as _

from audiotricks.errors import DomainError


class ObjectLost(DomainError):
    code = "object_missing"
    status = 500
    title = _("The stored object is missing")


class ObjectDamaged(DomainError):
    code = "object_damaged"
    status = 500
    title = _("The stored object is not what arrived")


class WorkerLost(DomainError):
    code = "worker_lost"
    status = 500
    title = _("The worker that processed the file was lost")


class ProcessingTimeLimit(DomainError):
    code = "processing_time_limit"
    status = 500
    title = _("Processing took too long")


class ProcessingBroken(DomainError):
    code = "internal_error"
    status = 500
    title = _("Processing met an unexpected error; the worker's log has it")
