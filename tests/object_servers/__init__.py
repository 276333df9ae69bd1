"""Object stores that run on this machine, each in a module of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ObjectServer:
    """A running server, as the settings ``STORAGES`` and as the environment name it.

    ``options`` and ``variables`` say the same, both without the bucket: that is added under ``bucket_option`` and
    ``bucket_variable``. ``empty_bucket`` gives the name of a bucket in which there is nothing.
    """

    alias: str
    backend: str
    options: Mapping[str, Any]
    variables: Mapping[str, str]
    bucket_option: str
    bucket_variable: str
    empty_bucket: Callable[[], str]

    def entry(self, bucket: str, **options: Any) -> dict[str, Any]:
        """For ``STORAGES``; ``options`` go over those of the server."""
        return {"BACKEND": self.backend, "OPTIONS": {**self.options, self.bucket_option: bucket, **options}}

    def environment(self, bucket: str) -> dict[str, str]:
        """For a program of ours whose new files go to this bucket."""
        return {**self.variables, self.bucket_variable: bucket, "AUDIO_STORAGE": self.alias}
