"""System checks of storage settings, without requests."""

import base64
import binascii
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from objectstore.names import is_valid_name

#: The address of each provider, and the same for browsers.
ADDRESSES = {
    "s3": ("AWS_S3_ENDPOINT_URL", "AWS_S3_PUBLIC_ENDPOINT_URL"),
    "gcs": ("GCS_ENDPOINT_URL", "GCS_ENDPOINT_URL"),
    "azure": ("AZURE_ENDPOINT_URL", "AZURE_PUBLIC_ENDPOINT_URL"),
}
#: The setting that names the place of all objects, and the form of such a name.
BUCKETS = {
    "s3": ("AWS_STORAGE_BUCKET_NAME", re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")),
    "gcs": ("GCS_BUCKET_NAME", re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")),
    "azure": ("AZURE_CONTAINER", re.compile(r"(?=.{3,63}$)[a-z0-9]+(?:-[a-z0-9]+)*")),
}
#: The setting with the class of new objects, and the classes that cannot be read at once.
UNREADABLE_CLASSES = {
    "s3": ("AWS_S3_STORAGE_CLASS", ("GLACIER", "DEEP_ARCHIVE")),
    "azure": ("AZURE_ACCESS_TIER", ("ARCHIVE",)),
}
CRYPTO_KEY = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")
NAMES_OF_THIS_MACHINE = {"localhost", "127.0.0.1", "::1", "[::1]", "testserver", ".localhost"}
LONG_SECONDS = 6 * 3600


@register
def check_buckets(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    messages: list[CheckMessage] = []
    for name, form in (BUCKETS[alias] for alias in BUCKETS if is_set_up(alias)):
        if not form.fullmatch(value := getattr(settings, name)):
            messages.append(
                Error(
                    f"{name} is {value!r}, and no bucket or container can be called that.",
                    hint="Write its name alone, without an address or a folder.",
                    id="uploads.E001",
                )
            )
    prefix = settings.AUDIO_STORAGE_PREFIX
    if prefix and not is_valid_name(prefix):
        messages.append(
            Error(
                f"AUDIO_STORAGE_PREFIX is {prefix!r}, and no folder of ours can be called that.",
                hint="Use letters, digits, hyphens, dots and underscores, with / between folders.",
                id="uploads.E013",
            )
        )
    for name, classes in (UNREADABLE_CLASSES[alias] for alias in UNREADABLE_CLASSES if is_set_up(alias)):
        if (value := getattr(settings, name)).upper() in classes:
            messages.append(
                Error(
                    f"{name} is {value!r}: files would have to be restored before anybody, the worker too, reads them.",
                    hint="Choose a class that is read at once, or none; the archive has classes of its own.",
                    id="uploads.E002",
                )
            )
    return messages


@register
def check_addresses(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    messages: list[CheckMessage] = []
    public_hosts = set(settings.ALLOWED_HOSTS) - NAMES_OF_THIS_MACHINE
    for inner, public in (ADDRESSES[alias] for alias in ADDRESSES if is_set_up(alias)):
        broken = [name for name in dict.fromkeys((inner, public)) if is_no_address(getattr(settings, name))]
        messages += [
            Error(
                f"{name} is {getattr(settings, name)!r}, which is no address of a server.",
                hint="Write it with its scheme, such as https://storage.example.com.",
                id="uploads.E003",
            )
            for name in broken
        ]
        address = getattr(settings, public) or getattr(settings, inner)
        if broken or not address:
            continue
        parts = urlsplit(address)
        if settings.HTTPS_ONLY and parts.scheme == "http":
            messages.append(
                Warning(
                    f"HTTPS_ONLY is on, and browsers are sent to {parts.scheme}://{parts.netloc} for recordings: on a "
                    "page that came over HTTPS they load nothing from there.",
                    hint=f"Set {public} to an https address, or DOWNLOAD_REDIRECTS=false.",
                    id="uploads.W001",
                )
            )
        if settings.DOWNLOAD_REDIRECTS and public_hosts and is_only_for_machines(parts.hostname or ""):
            messages.append(
                Warning(
                    f"Listeners are sent to {parts.netloc}, a name that only this machine and its neighbours know.",
                    hint=f"Set {public} to what browsers can reach, or DOWNLOAD_REDIRECTS=false."
                    if public != inner
                    else "Set DOWNLOAD_REDIRECTS=false.",
                    id="uploads.W002",
                )
            )
    return messages


@register
def check_s3(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not is_set_up("s3"):
        return []
    messages: list[CheckMessage] = []
    if bool(settings.AWS_ACCESS_KEY_ID) != bool(settings.AWS_SECRET_ACCESS_KEY):
        given, missing = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        if not settings.AWS_ACCESS_KEY_ID:
            given, missing = missing, given
        messages.append(
            Error(
                f"{given} is set, and {missing} is not.",
                hint="Set both, or neither: then boto3 looks where it always does.",
                id="uploads.E004",
            )
        )
    uses_kms = settings.AWS_S3_ENCRYPTION == "aws:kms"
    if uses_kms and not settings.AWS_S3_KMS_KEY_ID:
        messages.append(
            Warning(
                "AWS_S3_ENCRYPTION is aws:kms, and AWS_S3_KMS_KEY_ID names no key: the account's own is used, and "
                "files do not tell which that was.",
                hint="Set AWS_S3_KMS_KEY_ID to the ARN of the key, or AWS_S3_ENCRYPTION=AES256.",
                id="uploads.W005",
            )
        )
    if settings.AWS_S3_KMS_KEY_ID and not uses_kms:
        messages.append(
            Error(
                f"AWS_S3_KMS_KEY_ID names a key, and AWS_S3_ENCRYPTION is {settings.AWS_S3_ENCRYPTION}: nothing would "
                "be encrypted with it.",
                hint="Set AWS_S3_ENCRYPTION=aws:kms, or take the key out.",
                id="uploads.E005",
            )
        )
    return messages


@register
def check_gcs(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not is_set_up("gcs"):
        return []
    messages: list[CheckMessage] = []
    if reason := why_no_credentials(settings.GOOGLE_APPLICATION_CREDENTIALS):
        messages.append(
            Error(
                f"GOOGLE_APPLICATION_CREDENTIALS: {reason}",
                hint="Set it to the JSON file of the service account, readable for the user that runs this.",
                id="uploads.E006",
            )
        )
    if settings.GCS_KMS_KEY_NAME and not CRYPTO_KEY.fullmatch(settings.GCS_KMS_KEY_NAME):
        messages.append(
            Error(
                f"GCS_KMS_KEY_NAME is {settings.GCS_KMS_KEY_NAME!r}, which is no full name of a key.",
                hint="It is projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY.",
                id="uploads.E007",
            )
        )
    return messages


@register
def check_azure(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not is_set_up("azure"):
        return []
    messages: list[CheckMessage] = []
    if reason := why_no_connection(settings.AZURE_CONNECTION_STRING):
        messages.append(
            Error(
                f"AZURE_CONNECTION_STRING {reason}",
                hint="Copy the whole line that Azure shows under Access keys, from DefaultEndpointsProtocol on.",
                id="uploads.E011",
            )
        )
    ways = ("AZURE_CONNECTION_STRING", "AZURE_SAS_TOKEN", "AZURE_ACCOUNT_KEY")
    given = [name for name in ways if getattr(settings, name)]
    if len(given) > 1:
        messages.append(
            Error(
                f"{' and '.join(given)} are set: nobody can tell which of them counts.",
                hint="Set one of them, or none: then azure-identity looks for credentials.",
                id="uploads.E012",
            )
        )
    if not settings.AZURE_ACCOUNT_NAME and not settings.AZURE_CONNECTION_STRING:
        messages.append(
            Error(
                "AZURE_CONTAINER is set, and AZURE_ACCOUNT_NAME does not say in which storage account it is.",
                hint="Set AZURE_ACCOUNT_NAME to the account's short name.",
                id="uploads.E008",
            )
        )
    if settings.AZURE_ACCOUNT_KEY and not is_base64(settings.AZURE_ACCOUNT_KEY):
        messages.append(
            Error(
                "AZURE_ACCOUNT_KEY is not a key as Azure shows it.",
                hint="Copy the whole key, the = at its end too, and not the connection string.",
                id="uploads.E009",
            )
        )
    if bool(settings.AZURE_SUBSCRIPTION_ID) != bool(settings.AZURE_RESOURCE_GROUP):
        messages.append(
            Warning(
                "Of AZURE_SUBSCRIPTION_ID and AZURE_RESOURCE_GROUP only one is set: configure_lifecycle needs both.",
                hint="Set both, or neither.",
                id="uploads.W003",
            )
        )
    return messages


@register
def check_lifetimes(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not any(map(is_set_up, ADDRESSES)) or settings.SIGNED_URL_SECONDS <= LONG_SECONDS:
        return []
    if settings.SIGNED_URL_SECONDS > settings.ORPHAN_GRACE_HOURS * 3600:
        return [
            Error(
                "SIGNED_URL_SECONDS is longer than ORPHAN_GRACE_HOURS: what move_storage left behind would be removed "
                "while listeners still have its address.",
                hint="Let the grace period be the longer one.",
                id="uploads.E010",
            )
        ]
    return [
        Warning(
            f"SIGNED_URL_SECONDS is {settings.SIGNED_URL_SECONDS}: for this time, anyone with the address of a file "
            "can fetch it, even after the file was deleted or the listener lost the right to it.",
            hint="An hour or less is enough to play and to download: a player asks again.",
            id="uploads.W004",
        )
    ]


def is_set_up(alias: str) -> bool:
    return alias in settings.STORAGES


def is_no_address(value: str) -> bool:
    if not value:
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme not in ("http", "https") or not parts.hostname or bool(parts.query) or parts.port == 0
    except ValueError:
        return True


def is_only_for_machines(hostname: str) -> bool:
    """A loopback address, or a name without a dot."""
    return hostname in NAMES_OF_THIS_MACHINE or not re.search(r"[.:]", hostname)


def why_no_credentials(name: str) -> str:
    """Empty when the file is usable or not named."""
    if not name:
        return ""
    path = Path(name)
    if not path.is_file():
        return f"{name} is not a file."
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}."
    except ValueError:
        return f"{name} is not JSON."
    return "" if isinstance(content, dict) and "type" in content else f"{name} holds no credentials."


def why_no_connection(text: str) -> str:
    """Empty when the connection string is usable or not set."""
    if not text:
        return ""
    fields = dict(part.strip().partition("=")[::2] for part in text.strip().strip(";").split(";"))
    if fields.get("UseDevelopmentStorage"):
        return "names the development storage: write out its AccountName, AccountKey and BlobEndpoint."
    if not fields.get("BlobEndpoint") and not fields.get("AccountName"):
        return "has neither AccountName nor BlobEndpoint."
    if key := fields.get("AccountKey"):
        return "" if is_base64(key) else "has an AccountKey that is not one."
    return "" if fields.get("SharedAccessSignature") else "has neither AccountKey nor SharedAccessSignature."


def is_base64(key: str) -> bool:
    try:
        return bool(base64.b64decode(key, validate=True))
    except (binascii.Error, ValueError):
        return False
