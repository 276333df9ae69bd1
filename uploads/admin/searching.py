"""One search box, with an index for each kind of term."""

import re

from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from quotas.models import parse_uuid
from uploads.admin.filters import storage_aliases
from uploads.models import AudioUploadQuerySet, StoredObject

HELP = _("Name, id, SHA-256, MD5 or storage path")
SHA256 = re.compile(r"[0-9a-fA-F]{64}")
MD5 = re.compile(r"[0-9a-fA-F]{32}")


def find_uploads(uploads: AudioUploadQuerySet, term: str) -> AudioUploadQuerySet:
    """By id, whole checksum, whole storage path, or part of the name."""
    term = term.strip()
    if SHA256.fullmatch(term):
        return uploads.filter(checksum_sha256=term.lower())
    exact = Q()
    if pk := parse_uuid(term):
        exact |= Q(pk=pk)
    if MD5.fullmatch(term):
        exact |= Q(checksum_md5=term.lower())
    if "/" in term:
        named = StoredObject.objects.filter(storage_provider__in=storage_aliases(), storage_path=term)
        exact |= Q(stored_object__in=list(named))
    if exact:
        return uploads.filter(exact)
    return uploads.named(term) if term else uploads
