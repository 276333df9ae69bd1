"""What is wrong with a file that we said we had. Each is a fault of the vault, never of whoever asks."""

from audiotricks.errors import DomainError


class ObjectLost(DomainError):
    code = "object_missing"
    status = 500
    title = "The stored object is missing"


class ObjectDamaged(DomainError):
    code = "object_damaged"
    status = 500
    title = "The stored object is not what arrived"
