"""Who may ask the emulator: one service account, with tokens or with signed URLs, both verified.

Times are taken as the client says, except for the end of a signed URL: tests travel in time, this process does not.
"""

import base64
import hashlib
import json
import secrets
import time
from calendar import timegm
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt

#: Buckets that everybody may use.
OPEN_PREFIX = "open-"
EMAIL = "vault@tests.iam.gserviceaccount.com"
#: Not Google's own one: there, its library would ask addresses outside of this machine.
UNIVERSE = "tests.example"


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def write_account(file: Path) -> None:
    """Make a service account with a key of its own, as the file that Google lets one download."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {
        "type": "service_account",
        "project_id": "tests",
        "private_key_id": secrets.token_hex(20),
        "private_key": pem,
        "client_email": EMAIL,
        "client_id": "1",
        "token_uri": "http://127.0.0.1:9/",
        "universe_domain": UNIVERSE,
    }
    file.write_text(json.dumps(account))


class Account:
    """What the server knows of the account in ``file``."""

    def __init__(self, file: Path) -> None:
        account = json.loads(file.read_text())
        key = serialization.load_pem_private_key(account["private_key"].encode(), password=None)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._verifier = crypt.RSAVerifier.from_string(public)
        self._email = account["client_email"]

    def check(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        """Raises Refused if whoever sent this request may not do so."""
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        if url.path == "/" or "upload_id" in query or f"/{OPEN_PREFIX}" in url.path:
            return
        if "X-Goog-Signature" in query:
            self._check_signature(method, url.path, query, headers)
        elif not self._is_token(headers.get("Authorization", "")):
            raise Refused(401, "Invalid Credentials")

    def _is_token(self, authorization: str) -> bool:
        """See https://google.aip.dev/auth/4111: a service account signs its own tokens."""
        signed, _, signature = authorization.removeprefix("Bearer ").rpartition(".")
        return bool(self._verifier.verify(signed.encode(), base64.urlsafe_b64decode(f"{signature}==")))

    def _check_signature(self, method: str, path: str, query: dict[str, str], headers: Mapping[str, str]) -> None:
        """See https://cloud.google.com/storage/docs/authentication/canonical-requests."""
        signature = query.pop("X-Goog-Signature")
        names = query["X-Goog-SignedHeaders"]
        canonical = "\n".join(
            [
                method,
                path,
                "&".join(sorted(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in query.items())),
                *(f"{name}:{headers.get(name, '')}" for name in names.split(";")),
                "",
                names,
                "UNSIGNED-PAYLOAD",
            ]
        )
        email, _, scope = query["X-Goog-Credential"].partition("/")
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join(["GOOG4-RSA-SHA256", query["X-Goog-Date"], scope, digest])
        if email != self._email or not self._verifier.verify(text.encode(), bytes.fromhex(signature)):
            raise Refused(403, "The request signature does not match what was signed.")
        begun = timegm(time.strptime(query["X-Goog-Date"], "%Y%m%dT%H%M%SZ"))
        if time.time() > begun + int(query["X-Goog-Expires"]):
            raise Refused(400, "The provided token has expired.")
