"""What the doctor looks at: each look says what it found, or raises."""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import requests
from django.conf import settings
from django.core.files.base import ContentFile
from django.db import DatabaseError
from django.template.defaultfilters import filesizeformat
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from uploads.marks import why_not_ours
from uploads.storage.base import AudioStorage, StreamedContent
from uploads.storage.errors import (
    DirectUploadUnsupported,
    LifecycleByHand,
    LifecycleUnsupported,
    ObjectExists,
    StorageError,
)
from uploads.storage.retry import ONCE, retry_policy

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

CONTENT_TYPE = "audio/wav"
#: With what no header and no ASCII can hold, quoted or not.
FILENAME = "Prüfung “音” 100%.wav"
SMALL = bytes(range(256)) * 16
#: To connect, and between two packets; in seconds.
TIMEOUTS = (5, 20)
SIGNED_SECONDS = 120
#: Providers refuse requests whose time is 15 minutes off; a signed URL is shortened by what it is.
CLOCK_WRONG_SECONDS = 300


class Wrong(Exception):
    """It answers, and not as it should."""

    def __init__(self, detail: "_StrOrPromise", advice: "_StrOrPromise" = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.advice = advice


class Absent(Exception):
    """There is no such thing on this storage, for a reason that can be said."""

    def __init__(self, detail: "_StrOrPromise" = "") -> None:
        super().__init__(detail)
        self.detail = detail


class Looks:
    """The looks at one storage, and the objects that they write to it. Each raises Wrong, Absent or a StorageError."""

    def __init__(self, alias: str, storage: AudioStorage, *, create: bool) -> None:
        self.alias = alias
        self.storage = storage
        self._create = create
        folder = f"doctor/{secrets.token_hex(8)}"
        self.name, self.copied, self.large, self.direct = (
            f"{folder}/{name}.wav" for name in ("small", "copy", "large", "direct")
        )
        self._begun: list[str] = []

    def clean(self) -> None:
        """Remove what is still there, whatever else is wrong."""
        with retry_policy(ONCE):
            for name in self._begun:
                with suppress(StorageError):
                    self.storage.delete(name)

    def room(self) -> "_StrOrPromise":
        self.storage.ensure_space(0)
        space = self.storage.space()
        return format_lazy(_("{size} free"), size=filesizeformat(space.free_bytes)) if space else ""

    def clock(self) -> "_StrOrPromise":
        """The clock is that of an answer to nobody: also a storage that refuses us tells it."""
        url = self.storage.signed_url(self.name, seconds=SIGNED_SECONDS)
        if url is None:
            raise Absent(_("nothing can be signed, so its address is not known"))
        parts = urlsplit(url)
        answer = fetch(urlunsplit((parts.scheme, parts.netloc, "/", "", "")))
        here = datetime.now(UTC)
        try:
            there = parsedate_to_datetime(answer.headers.get("Date", ""))
        except ValueError:
            return parts.netloc
        seconds = round((here - there.replace(tzinfo=there.tzinfo or UTC)).total_seconds())
        if abs(seconds) > CLOCK_WRONG_SECONDS:
            raise Wrong(
                format_lazy(_("this machine's clock is {seconds} seconds off"), seconds=seconds),
                _("Let the network set it (NTP): signed requests with a wrong time are refused."),
            )
        return format_lazy(_("{host}, clocks {seconds} s apart"), host=parts.netloc, seconds=abs(seconds))

    def bucket(self) -> "_StrOrPromise":
        if self._create and self.storage.create_bucket():
            return _("made")
        next(self.storage.list(self.name), None)
        return ""

    def write(self) -> "_StrOrPromise":
        self._begun.append(self.name)
        metadata = {"original_filename": FILENAME}
        self.storage.save(self.name, ContentFile(SMALL), content_type=CONTENT_TYPE, metadata=lambda: metadata)
        return ""

    def read(self) -> "_StrOrPromise":
        if self.content(self.name) != SMALL:
            raise Wrong(_("other bytes came back than were written"))
        if self.content(self.name, 1000, 500) != SMALL[1000:1500]:
            raise Wrong(_("a part of an object is not what was asked for"), _("Players need ranges of bytes."))
        return ""

    def facts(self) -> "_StrOrPromise":
        stat = self.storage.stat(self.name)
        if stat.size != len(SMALL):
            raise Wrong(_("it does not know the size of an object"))
        for algorithm in ("md5", "sha256"):
            known = stat.checksums.get(algorithm)
            if known and known != hashlib.new(algorithm, SMALL).hexdigest():
                raise Wrong(format_lazy(_("its {algorithm} is another than that of the bytes"), algorithm=algorithm))
        if stat.metadata.get("original_filename") != FILENAME:
            raise Wrong(_("it does not keep file names beyond ASCII as metadata"))
        if stat.content_type != CONTENT_TYPE:
            raise Wrong(_("it does not keep the type of an object"))
        if not stat.checksums:
            return _("it keeps no checksums: AudioTricks reads objects to compare them")
        return ", ".join(sorted(stat.checksums))

    def overwrite(self) -> "_StrOrPromise":
        try:
            self.storage.save(self.name, ContentFile(b"another"), content_type=CONTENT_TYPE)
        except ObjectExists:
            if self.content(self.name) == SMALL:
                return ""
        raise Wrong(
            _("a second write under the same name was taken"),
            _(
                "The server ignores conditional writes (If-None-Match). AudioTricks uses each name once, so that files "
                "stay whole as long as nothing else writes into this bucket; but it cannot promise it. Take a newer "
                "version of the server, or another one."
            ),
        )

    def list(self) -> "_StrOrPromise":
        if [stat.name for stat in self.storage.list(self.name)] != [self.name]:
            raise Wrong(
                _("an object that was just written is not in the list"),
                _("The sweep of orphaned objects and check_storage rely on consistent lists."),
            )
        return ""

    def copy(self) -> "_StrOrPromise":
        self._begun.append(self.copied)
        self.storage.copy(self.name, self.copied)
        if self.content(self.copied) != self.content(self.name):
            raise Wrong(_("the copy has other bytes"))
        return ""

    def parts(self) -> "_StrOrPromise":
        """Two parts, the second of them small."""
        size = settings.STORAGE_PART_BYTES + len(SMALL)
        self._begun.append(self.large)
        pieces = Pieces(size)
        self.storage.save(self.large, StreamedContent(pieces, expected_bytes=size), content_type=CONTENT_TYPE)
        read = hashlib.sha256()
        with self.storage.open_range(self.large) as file:
            while piece := file.read(1024**2):
                read.update(piece)
        if read.hexdigest() != pieces.digest.hexdigest():
            raise Wrong(_("other bytes came back than were written"))
        return filesizeformat(size)

    def mark(self) -> "_StrOrPromise":
        """The one look that needs the database: without it nobody can say whose the storage is."""
        try:
            why = why_not_ours(self.alias)
        except DatabaseError as error:
            raise Absent(_("the database cannot be asked: migrate it first")) from error
        if why:
            raise Wrong(
                why, _("Nothing is removed and no new file is taken until you decide: `manage.py vault` says how.")
            )
        return ""

    def partials(self) -> "_StrOrPromise":
        """Asked for what is older than anything, so that nothing is removed."""
        self.storage.remove_partials(datetime(1970, 1, 2, tzinfo=UTC))
        return ""

    def signed(self) -> "_StrOrPromise":
        disposition = 'attachment; filename="doctor.wav"'
        answer = fetch(self.url(content_type="audio/x-doctor", disposition=disposition))
        if answer.status_code != 200 or answer.content != SMALL:
            raise Wrong(
                format_lazy(_("it answers {status} to a signed URL"), status=answer.status_code),
                _(
                    "Look at region, addressing style and public address; a proxy in between must not change host or "
                    "path. DOWNLOAD_REDIRECTS=false does without."
                ),
            )
        if (answer.headers.get("Content-Type"), answer.headers.get("Content-Disposition")) != (
            "audio/x-doctor",
            disposition,
        ):
            raise Wrong(
                _("it does not send the headers that were signed"),
                _("Downloads would open as pages and have other names. Set DOWNLOAD_REDIRECTS=false."),
            )
        part = fetch(self.url(), headers={"Range": "bytes=1000-1499"})
        if part.status_code != 206 or part.content != SMALL[1000:1500]:
            raise Wrong(
                _("it sends no ranges of bytes to a signed URL"),
                _("Players could not jump within a recording. Set DOWNLOAD_REDIRECTS=false."),
            )
        return ""

    def one_verb(self) -> "_StrOrPromise":
        answer = fetch(self.url(), method="DELETE")
        if answer.status_code < 400 or not self.storage.exists(self.name):
            raise Wrong(
                _("a URL that was signed for reading can delete"),
                _("The server does not check signatures: whoever can reach it can do anything. Do not use it."),
            )
        return ""

    def private(self) -> "_StrOrPromise":
        parts = urlsplit(self.url())
        if fetch(urlunsplit(parts._replace(query=""))).ok:
            raise Wrong(
                _("everybody who knows an object's name can read it"),
                _("Take public access from the bucket: AudioTricks signs a URL for each listener."),
            )
        return ""

    def direct_upload(self) -> "_StrOrPromise":
        size = len(SMALL)
        self._begun.append(self.direct)
        try:
            direct = self.storage.begin_direct(
                self.direct, size_bytes=size, content_type=CONTENT_TYPE, metadata=dict, seconds=SIGNED_SECONDS
            )
        except DirectUploadUnsupported as error:
            raise Absent from error
        try:
            wanted = self.storage.direct_requests(self.direct, direct, size_bytes=size, seconds=SIGNED_SECONDS)
            for request in wanted:
                answer = fetch(
                    request.url,
                    method=request.method,
                    headers=dict(request.headers),
                    data=SMALL[request.start : request.start + request.size],
                )
                if not answer.ok:
                    raise Wrong(
                        format_lazy(_("it answers {status} to bytes that a client sends"), status=answer.status_code),
                        _("Look at region and public address. Clients can send files to uploads/ instead."),
                    )
        finally:
            self.storage.abort_direct(self.direct, direct)
        return ""

    def encryption(self) -> "_StrOrPromise":
        reference = self.storage.encryption_key
        if reference is None:
            return _("by the provider, with its own keys")
        used = self.storage.stat(self.name).encryption_key
        if not used:
            raise Wrong(
                _("objects are not encrypted with the key that is set"),
                _("Look at the key's name, its region, and whether the account may use it."),
            )
        return used

    def rules(self) -> "_StrOrPromise":
        try:
            plan = self.storage.plan_lifecycle()
        except (LifecycleUnsupported, LifecycleByHand) as error:
            raise Absent(error.args[0]) from error
        if plan is None:
            raise Absent
        if plan.threats:
            raise Wrong(
                _("a rule that is not ours removes files, or makes them unreadable"),
                _("`manage.py configure_lifecycle --dry-run` names it."),
            )
        return _("`manage.py configure_lifecycle` would change them") if plan.changes else _("ours are in place")

    def delete(self) -> "_StrOrPromise":
        for name in self._begun:
            self.storage.delete(name)
        left = [name for name in self._begun if self.storage.exists(name)]
        if left:
            raise Wrong(
                _("what was deleted is still there"), format_lazy(_("Remove {names} by hand."), names=", ".join(left))
            )
        self._begun.clear()
        return ""

    # With what

    def content(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        with self.storage.open_range(name, start, length) as file:
            return file.read()

    def url(self, **headers: str) -> str:
        url = self.storage.signed_url(self.name, seconds=SIGNED_SECONDS, **headers)  # type: ignore[arg-type]
        if url is None:
            raise Absent(_("these credentials cannot sign: AudioTricks sends files itself"))
        return url


class Pieces:
    """So many bytes that cannot be compressed, a piece at a time; ``digest`` is of those that were taken."""

    def __init__(self, size: int) -> None:
        self.digest = hashlib.sha256()
        self._left = size

    def __iter__(self) -> Iterator[bytes]:
        while self._left:
            piece = secrets.token_bytes(min(self._left, 1024**2))
            self._left -= len(piece)
            self.digest.update(piece)
            yield piece


def fetch(url: str, *, method: str = "GET", **options: Any) -> requests.Response:
    """One request as a client sends it, without credentials. Raises Wrong where there is no answer."""
    try:
        # Without ``auth`` a .netrc would be looked into.
        return requests.request(
            method, url, timeout=TIMEOUTS, allow_redirects=False, auth=lambda request: request, **options
        )
    except requests.exceptions.SSLError as error:
        raise Wrong(
            format_lazy(_("{host} has a certificate that is not trusted"), host=urlsplit(url).netloc),
            _("Make this machine trust its authority (REQUESTS_CA_BUNDLE, AWS_CA_BUNDLE), or use another address."),
        ) from error
    except requests.RequestException as error:
        raise Wrong(
            format_lazy(_("{host} cannot be reached"), host=urlsplit(url).netloc),
            _("Look at the address, at name resolution, firewall and proxy, and whether the server runs."),
        ) from error
