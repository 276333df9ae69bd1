"""A bucket of Google Cloud Storage: how it is reached, by whom, what is signed for others, and its rules."""

import base64
import json
import math
import threading
import warnings
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import google.auth
import structlog
from django.conf import settings
from django.core.files.storage import Storage
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from google.api_core.exceptions import Conflict
from google.auth.credentials import AnonymousCredentials, Signing
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Client
from google.oauth2 import service_account
from requests.adapters import HTTPAdapter
from storages.backends.gcloud import GoogleCloudStorage

from ..base import Encryption, EncryptionReference, Keeping
from ..errors import BucketNotFound, CredentialsRefused
from ..remote import RemoteStorage
from ..retry import call_with_retry
from ..rules import LifecyclePlan
from . import rules
from .http import Requests, resource_of, vendor_errors
from .objects import Objects

log = structlog.get_logger(__name__)

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
#: Connections that wait for the next request of a thread.
POOLED_CONNECTIONS = 64
GOOGLE = ".googleapis.com"
SECONDS_OF_DAY = 86_400


class GCSBucket(RemoteStorage, GoogleCloudStorage):
    """The bucket, and who we are there.

    ``credentials_file`` is as Google gives them out; without one, credentials are those that Google's library finds.
    With ``endpoint_url``, another server is asked instead of Google's: without a file, with no credentials at all.
    ``region`` is where ``create_bucket`` makes the bucket, and what rows remember. ``kms_key_name`` and
    ``storage_class`` are those of new objects. Other options of django-storages change nothing here.
    """

    provider = "gcs"

    bucket_name: str
    project_id: str | None
    credentials_file: str
    endpoint_url: str
    kms_key_name: str
    storage_class: str
    credentials: Any
    _client: Client | None

    # What django-storages has for these goes past our errors and retries.
    listdir = Storage.listdir
    url = Storage.url
    get_created_time = Storage.get_created_time

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._lock = threading.RLock()
        self._known: Objects | None = None

    def get_default_settings(self) -> dict[str, Any]:
        ours = dict.fromkeys(("credentials_file", "region", "endpoint_url", "kms_key_name", "storage_class"), "")
        return {**super().get_default_settings(), **ours, "purge_versions": False}

    @property
    def folder(self) -> str:
        """What stands before each of our names in the bucket, with its ``/``; empty where the bucket is ours alone."""
        return f"{self.location.strip('/')}/" if self.location.strip("/") else ""

    @property
    def encryption_key(self) -> EncryptionReference | None:  # type: ignore[override]
        return EncryptionReference("gcp-kms", self.kms_key_name) if self.kms_key_name else None

    def location_of(self, name: str) -> str:
        self.check_name(name)
        return f"gs://{self.bucket_name}/{self.folder}{name}"

    def signed_url(
        self,
        name: str,
        *,
        seconds: int,
        method: Literal["GET", "PUT"] = "GET",
        content_type: str = "",
        disposition: str = "",
    ) -> str | None:
        """See AudioStorage. Without a private key Google's IAM signs, which takes a request.

        None where there is neither a key nor a service account, as with the credentials of a person.
        """
        self.check_name(name)
        answer = {"response_type": content_type or None, "response_disposition": disposition or None}

        def sign() -> str | None:
            with vendor_errors("sign", name):
                blob = self.bucket.blob(self.folder + name)
                signer = self._signer()
                if signer is None:
                    return None
                url: str = blob.generate_signed_url(
                    version="v4",
                    expiration=timedelta(seconds=seconds),
                    method=method,
                    **(answer if method == "GET" else {"content_type": content_type or None}),
                    **signer,
                )
                return url

        return call_with_retry(sign)

    def plan_lifecycle(self) -> LifecyclePlan:
        with vendor_errors("read rules", missing=BucketNotFound):
            return rules.plan(self.bucket, self.folder)

    def apply_lifecycle(self, plan: LifecyclePlan) -> None:
        with vendor_errors("write rules", missing=BucketNotFound):
            rules.apply(self.bucket, plan)

    def create_bucket(self) -> bool:
        """See AudioStorage. Nobody can open it to the public later, nor single objects in it."""
        bucket = self.client.bucket(self.bucket_name)
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.iam_configuration.public_access_prevention = "enforced"

        def create() -> bool:
            with vendor_errors("create bucket", missing=BucketNotFound):
                try:
                    self.client.create_bucket(
                        bucket, location=self.region or None, retry=None, timeout=settings.STORAGE_TIMEOUT_SECONDS
                    )
                except Conflict:
                    return False
            return True

        return call_with_retry(create)

    def keeping(self) -> Keeping:
        """See AudioStorage. Soft delete is on by default, for a week; who may not read the bucket does not learn it."""
        try:
            bucket = call_with_retry(self._objects.bucket)
        except CredentialsRefused:
            return Keeping(versions=None, soft_days=None, lock=None)
        soft = bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds")
        return Keeping(
            versions=bool(bucket.get("versioning", {}).get("enabled")),
            soft_days=None if soft is None else int(soft) / SECONDS_OF_DAY,
            lock=lock_of(bucket),
        )

    def encryption_of(self, name: str) -> Encryption:
        """See AudioStorage. Google says nothing of its own keys, and encrypts all that it stores; others may not.

        https://cloud.google.com/docs/security/encryption/default-encryption
        """
        key = self.stat(name).encryption_key
        try:
            bucket = call_with_retry(self._objects.bucket)
        except CredentialsRefused:
            bucket = {}
        is_google = not self.endpoint_url or urlsplit(self.endpoint_url).netloc.endswith(GOOGLE)
        default_key = bucket.get("encryption", {}).get("defaultKmsKeyName", "")
        return Encryption("AES256" if is_google or key else "", key, default_key)

    @property
    def client(self) -> Client:
        with self._lock:
            if self._client is None:
                with vendor_errors("find credentials"):
                    self.credentials, found_project = find_credentials(self.credentials_file, bool(self.endpoint_url))
                self._session = new_session(self.credentials)
                universe = self.credentials.universe_domain
                endpoint = self.endpoint_url.rstrip("/") or f"https://storage.{universe}"
                self._client = Client(
                    project=self.project_id or found_project,
                    credentials=self.credentials,
                    _http=self._session,
                    client_options={"api_endpoint": endpoint, "universe_domain": universe},
                )
            return self._client

    @property
    def _objects(self) -> Objects:
        with self._lock:
            if self._known is None:
                endpoint = self.client.api_endpoint
                self._known = Objects(
                    Requests(self._session), endpoint, self.bucket_name, self.kms_key_name, folder=self.folder
                )
            return self._known

    def _signer(self) -> Mapping[str, Any] | None:
        """What ``generate_signed_url`` is to sign with, when the client is there. May ask Google for a token."""
        if isinstance(self.credentials, Signing):
            return {"credentials": self.credentials}
        if isinstance(self.credentials, AnonymousCredentials):
            return None
        try:
            email, _token = self._get_iam_sign_blob_params()
        except AttributeError:
            return None
        return {"credentials": KeylessSigning(Requests(self._session), self.credentials.universe_domain, email)}


def lock_of(bucket: Mapping[str, Any]) -> Any:
    """What forbids to delete an object, in words."""
    if seconds := bucket.get("retentionPolicy", {}).get("retentionPeriod"):
        return format_lazy(_("a retention policy, {days} days"), days=math.ceil(int(seconds) / SECONDS_OF_DAY))
    if bucket.get("defaultEventBasedHold"):
        return _("a hold on every new object")
    return ""


class KeylessSigning(Signing):
    """Has Google sign for a service account, with one request: the library's own would be tried for two minutes.

    https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signBlob
    """

    def __init__(self, requests: Requests, universe: str, email: str) -> None:
        self._requests = requests
        self._address = f"https://iamcredentials.{universe}/v1/projects/-/serviceAccounts/{email}:signBlob"
        self._email = email

    @property
    def signer_email(self) -> str:
        return self._email

    @property
    def signer(self) -> None:
        """Nobody has the key."""

    def sign_bytes(self, message: bytes) -> bytes:
        answer = self._requests.send(
            "POST",
            self._address,
            action="sign",
            name="",
            expected=frozenset({200}),
            missing=CredentialsRefused,
            headers={"Content-Type": "application/json"},
            data=json.dumps({"payload": base64.b64encode(message).decode()}).encode(),
        )
        return base64.b64decode(resource_of(answer, ["signedBlob"])["signedBlob"])


def find_credentials(file: str, is_other_server: bool) -> tuple[Any, str | None]:
    """Return credentials and the project that they know. Raises GoogleAuthError, CredentialsRefused."""
    if not file and is_other_server:
        return AnonymousCredentials(), None
    if not file:
        found: tuple[Any, str | None] = google.auth.default(scopes=SCOPES)
        return found
    try:
        is_account = json.loads(Path(file).read_text()).get("type") == "service_account"
        if is_account:
            account = service_account.Credentials.from_service_account_file(file, scopes=SCOPES)
            return account, account.project_id
        with warnings.catch_warnings():
            # It warns of files from strangers; this one is the operator's.
            warnings.simplefilter("ignore", DeprecationWarning)
            loaded: tuple[Any, str | None] = google.auth.load_credentials_from_file(file, scopes=SCOPES)
            return loaded
    except (OSError, ValueError, AttributeError) as error:
        log.error("gcs_credentials_unreadable", error=type(error).__name__)
        raise CredentialsRefused from error


def new_session(credentials: Any) -> AuthorizedSession:
    session = AuthorizedSession(credentials)
    adapter = HTTPAdapter(pool_maxsize=POOLED_CONNECTIONS, max_retries=0)
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)
    return session
