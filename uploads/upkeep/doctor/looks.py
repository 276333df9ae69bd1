"""The tests of the doctor."""

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import requests
from django.conf import settings
from django.core.files.base import ContentFile
from django.db import DatabaseError
from django.template.defaultfilters import filesizeformat
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from objectstore import direct_uploads_of
from objectstore.base import AudioStorage
from objectstore.checksums import base64_of, md5
from objectstore.content import StreamedContent
from objectstore.errors import (
    DirectUploadUnsupported,
    LifecycleByHand,
    LifecycleUnsupported,
    ObjectExists,
    PermanentStorageError,
    StorageError,
)
from objectstore.retry import ONCE, retry_policy
from uploads.models import AudioUpload
from uploads.objects.marks import why_not_ours

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

Capability = TypeVar("Capability")

CONTENT_TYPE = "audio/wav"
#: Contains characters that need encoding in headers.
FILENAME = "Prüfung “音” 100%.wav"
SMALL = bytes(range(256)) * 16
#: Seconds to connect, and between two packets.
TIMEOUTS = (5, 20)
SIGNED_SECONDS = 120
#: Providers refuse requests whose time is 15 minutes off; a signed URL lives shorter by the difference.
CLOCK_WRONG_SECONDS = 300


class Wrong(Exception):
    """Not as needed. ``is_limit``: AudioTricks works without it."""

    def __init__(self, detail: "_StrOrPromise", advice: "_StrOrPromise" = "", *, is_limit: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.advice = advice
        self.is_limit = is_limit


class Absent(Exception):
    """The storage has no such thing; see ``detail``."""

    def __init__(self, detail: "_StrOrPromise" = "") -> None:
        super().__init__(detail)
        self.detail = detail


def present(capability: Capability | None) -> Capability:
    """Raises Absent."""
    if capability is None:
        raise Absent
    return capability


class Looks:
    """Each test returns its finding, or raises Wrong, Absent or a StorageError."""

    def __init__(self, alias: str, storage: AudioStorage, *, create: bool) -> None:
        self.alias = alias
        self.storage = storage
        self._create = create
        folder = f"doctor/{secrets.token_hex(8)}"
        self.name, self.copied, self.large, self.direct, self.unfinished, self.taken = (
            f"{folder}/{name}.wav" for name in ("small", "copy", "large", "direct", "unfinished", "taken")
        )
        self._begun: list[str] = []
        self._pieces: Pieces | None = None
        self._deleted: list[str] = []

    def clean(self) -> None:
        with retry_policy(ONCE):
            for name in self._begun:
                with suppress(StorageError):
                    self.storage.delete(name)
            # Versions go too, if the key may remove them.
            for name in (*self._begun, *self._deleted):
                with suppress(StorageError, Absent):
                    present(self.storage.bucket).remove_versions(name)

    def room(self) -> "_StrOrPromise":
        self.storage.ensure_space(0)
        space = self.storage.space()
        return format_lazy(_("{size} free"), size=filesizeformat(space.free_bytes)) if space else ""

    def clock(self) -> "_StrOrPromise":
        """Also a refusal of an unsigned request shows the time."""
        signer = self.storage.signer
        url = signer.sign(self.name, seconds=SIGNED_SECONDS) if signer is not None else None
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
        if self._create and present(self.storage.bucket).create():
            return _("made")
        next(self.storage.list(self.name), None)
        there = present(self.storage.bucket).region()
        if there and there != self.storage.region:
            raise Wrong(
                format_lazy(_("the bucket is in the region {there}"), there=there),
                format_lazy(_("Signed URLs need it: write AWS_S3_REGION_NAME={there} into .env."), there=there),
            )
        return there

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
                "The server ignores conditional writes (If-None-Match): write AWS_S3_CONDITIONAL_WRITES=false into "
                ".env, so that AudioTricks looks before it writes. Two writers at once are then not kept apart; each "
                "name is used once, so that files stay whole as long as nothing else writes into this bucket. Or take "
                "a newer version of the server."
            ),
        )

    def overwrite_in_parts(self) -> "_StrOrPromise":
        """Some servers refuse a taken name only to single requests."""
        self._begun.append(self.taken)
        self.storage.save(self.taken, ContentFile(SMALL))
        if present(self.storage.parts).overwrites(self.taken):
            raise Wrong(
                _("an upload in parts replaces an object of the same name"),
                _(
                    "AudioTricks looks whether a name is free before it finishes an upload, and uses each name once. "
                    "Two uploads that finish at once are not kept apart by this server."
                ),
                is_limit=True,
            )
        if not getattr(self.storage, "conditional_writes", True):
            raise Wrong(
                _("AWS_S3_CONDITIONAL_WRITES is false: AudioTricks looks before it writes"),
                _("Two writers of one name at once are not kept apart. Take it out if the server knows If-None-Match."),
                is_limit=True,
            )
        return ""

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
        """Two parts, and ranges where they meet and at the end."""
        size = settings.STORAGE_PART_BYTES + len(SMALL)
        self._begun.append(self.large)
        pieces = self._pieces = Pieces(size, self.samples())
        self.storage.save(self.large, StreamedContent(pieces, expected_bytes=size), content_type=CONTENT_TYPE)
        read = hashlib.sha256()
        with self.storage.open_range(self.large) as file:
            while piece := file.read(1024**2):
                read.update(piece)
        if read.hexdigest() != pieces.digest.hexdigest():
            raise Wrong(_("other bytes came back than were written"))
        for start, sample in pieces.sampled.items():
            if self.content(self.large, start, len(sample)) != bytes(sample):
                raise Wrong(_("a part of a large object is not what was asked for"), _("Players need ranges of bytes."))
        return filesizeformat(size)

    def mark(self) -> "_StrOrPromise":
        """Needs the database, which knows the owner."""
        try:
            self.check_places()
            why = why_not_ours(self.alias)
        except DatabaseError as error:
            raise Absent(_("the database cannot be asked: migrate it first")) from error
        if why:
            raise Wrong(
                why, _("Nothing is removed and no new file is taken until you decide: `manage.py vault` says how.")
            )
        return ""

    def check_places(self) -> None:
        """Raises Wrong after a change of bucket or prefix."""
        if self.storage.directory is not None:
            return
        rows = AudioUpload.objects.filter(storage_provider=self.alias).exclude(storage_path="").exclude(storage_url="")
        oldest, newest = rows.order_by("uploaded_at", "id").first(), rows.order_by("-uploaded_at", "-id").first()
        for row in filter(None, (oldest, newest)):
            if place_of(row.storage_url) != place_of(self.storage.location_of(row.storage_path)):
                raise Wrong(
                    format_lazy(_("files were written to {place}"), place=row.storage_url),
                    _(
                        "They stay there, and AudioTricks looks for them where the settings say now. Set bucket and "
                        "AUDIO_STORAGE_PREFIX back, or copy the objects to the new place first."
                    ),
                )

    def samples(self) -> dict[int, int]:
        """Lengths of ranges of the large object by start."""
        part = settings.STORAGE_PART_BYTES
        return {part - 250: 500, part + len(SMALL) - 100: 100}

    def partials(self) -> "_StrOrPromise":
        """Asks for older ones than exist, so that nothing is removed."""
        self.storage.remove_partials(datetime(1970, 1, 2, tzinfo=UTC))
        if not present(self.storage.parts).lists_unfinished(self.unfinished):
            raise Wrong(
                _("it lists unfinished uploads by their exact name only"),
                _(
                    "Parts of uploads that were broken off are removed with their file; what a restored database does "
                    "not know stays. `manage.py configure_lifecycle` puts a rule in place that removes them."
                ),
                is_limit=True,
            )
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
        ranges = [(self.name, 1000, SMALL[1000:1500])]
        if self._pieces is not None:
            ranges += [(self.large, start, bytes(sample)) for start, sample in self._pieces.sampled.items()]
        for name, start, expected in ranges:
            part = fetch(self.url(name), headers={"Range": f"bytes={start}-{start + len(expected) - 1}"}, stream=True)
            with part:
                if part.status_code != 206 or part.content != expected:
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
                _("The server does not check signatures: anyone who can reach it can do anything. Do not use it."),
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
            uploads = direct_uploads_of(self.storage)
            direct = uploads.begin(
                self.direct, size_bytes=size, content_type=CONTENT_TYPE, metadata=dict, seconds=SIGNED_SECONDS
            )
        except DirectUploadUnsupported as error:
            raise Absent from error
        try:
            wanted = uploads.requests(self.direct, direct, size_bytes=size, seconds=SIGNED_SECONDS)
            for request in wanted:
                body = SMALL[request.start : request.start + request.size]
                checksum = {"Content-MD5": base64_of(md5(body))} if request.takes_md5 else {}
                answer = fetch(request.url, method=request.method, headers={**request.headers, **checksum}, data=body)
                if not answer.ok:
                    raise Wrong(
                        format_lazy(_("it answers {status} to bytes that a client sends"), status=answer.status_code),
                        _("Look at region and public address. Clients can send files to uploads/ instead."),
                    )
        finally:
            uploads.abort(self.direct, direct)
        return ""

    def encryption(self) -> "_StrOrPromise":
        """Only the storage's own report counts."""
        found = present(self.storage.bucket).encryption_of(self.name)
        if self.storage.encryption_key is not None:
            if not found.key:
                raise Wrong(
                    _("objects are not encrypted with the key that is set"),
                    _("Look at the key's name, its region, and whether the account may use it."),
                )
            return found.key
        if found.default_key and not found.key:
            raise Wrong(
                format_lazy(
                    _("the bucket has a key of its own, {key}, and our setting overrides it"), key=found.default_key
                ),
                _("Write AWS_S3_ENCRYPTION=bucket into .env: then new objects get the bucket's key."),
                is_limit=True,
            )
        if found.key:
            return format_lazy(_("{algorithm}, with the key {key}"), algorithm=found.algorithm, key=found.key)
        if not found.algorithm:
            raise Wrong(
                _("the storage does not say that it encrypts"),
                _(
                    "Assume that anyone with its disks can listen, unless its operator promises otherwise. "
                    "docs/object-stores.md says what each provider does."
                ),
                is_limit=True,
            )
        return format_lazy(_("{algorithm}, by the storage with its own keys"), algorithm=found.algorithm)

    def rules(self) -> "_StrOrPromise":
        try:
            plan = present(self.storage.rules).plan()
        except (LifecycleUnsupported, LifecycleByHand) as error:
            raise Absent(error.args[0]) from error
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
        self._deleted, self._begun = self._begun, []
        return ""

    def purge(self) -> "_StrOrPromise":
        """What remains of the deleted objects, by a test and by the bucket's settings."""
        keeping = present(self.storage.bucket).keeping()
        try:
            left = sum(present(self.storage.bucket).versions_of(name) for name in self._deleted)
        except PermanentStorageError:
            left = None
        if left and not keeping.soft_days:
            raise Wrong(
                _("a purged file stays readable as an older version"),
                _(
                    "Write STORAGE_PURGE_VERSIONS=true into .env to remove versions too (the key needs the right), or "
                    "have a rule of the bucket remove noncurrent versions."
                ),
                is_limit=True,
            )
        if keeping.soft_days:
            raise Wrong(
                format_lazy(_("a purged file can be brought back for {days} days"), days=f"{keeping.soft_days:g}"),
                _("The storage's soft delete keeps it, and nobody can shorten that. Switch it off if you must."),
                is_limit=True,
            )
        if keeping.lock:
            raise Wrong(
                format_lazy(_("the bucket has a lock: {lock}"), lock=keeping.lock),
                _("What is locked cannot be purged before its time; it is tried again until then."),
                is_limit=True,
            )
        if keeping.versions and not left:
            return _("older versions are removed too")
        if left is None or keeping.versions is None or keeping.soft_days is None or keeping.lock is None:
            raise Wrong(
                _("it cannot be seen whether the storage keeps what is deleted"),
                _("Let the key read the bucket's settings, or ask its operator for versioning, locks and soft delete."),
                is_limit=True,
            )
        return _("nothing is kept")

    # Helpers

    def content(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        with self.storage.open_range(name, start, length) as file:
            return file.read()

    def url(self, name: str = "", **headers: str) -> str:
        signer = self.storage.signer
        url = signer.sign(name or self.name, seconds=SIGNED_SECONDS, **headers) if signer else None  # type: ignore[arg-type]
        if url is None:
            raise Absent(_("these credentials cannot sign: AudioTricks sends files itself"))
        return url


class Pieces:
    """Incompressible bytes; ``digest`` of those taken; ``sampled`` has the ``samples`` (length by start)."""

    def __init__(self, size: int, samples: Mapping[int, int] | None = None) -> None:
        self.digest = hashlib.sha256()
        self.sampled = {start: bytearray() for start in samples or {}}
        self._samples = samples or {}
        self._size = size

    def __iter__(self) -> Iterator[bytes]:
        at = 0
        while at < self._size:
            piece = secrets.token_bytes(min(self._size - at, 1024**2))
            self.digest.update(piece)
            for start, length in self._samples.items():
                self.sampled[start] += piece[max(start - at, 0) : max(start + length - at, 0)]
            at += len(piece)
            yield piece


def place_of(location: str) -> str:
    """Without the server's address, which may have changed."""
    parts = urlsplit(location)
    return parts.path if parts.scheme in ("http", "https") else location


def fetch(url: str, *, method: str = "GET", **options: Any) -> requests.Response:
    """Without credentials. Raises Wrong without a response."""
    try:
        # Prevents a look into .netrc.
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
