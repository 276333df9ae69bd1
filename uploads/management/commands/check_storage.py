import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from audiotricks.management.prompt import (
    INTERRUPTED,
    Progress,
    ProseCommand,
    only_warnings_logged,
    stop_on_interrupt,
    usage_error,
)
from audiotricks.running.logs import escape
from objectstore.capabilities import Keeping
from objectstore.errors import StorageError
from objectstore.retry import ONCE, retry_policy
from uploads.management.storages import aliases_to_look_at
from uploads.management.workspaces import workspace_named
from uploads.upkeep.inventory import Finding, Inventory, Kind

DESCRIPTION = """\
Compare what the database says of the stored objects with what there is, and say what is

  missing            a file whose object is not there
  wrong_size         an object that is not as large as what arrived
  wrong_hash         an object with other bytes than those that arrived (only with --deep)
  missing_thumbnail  a picture that is not there
  orphaned           an object that no file needs, older than ORPHAN_GRACE_HOURS
  unreadable         what the storage would not say anything about
  held               a storage that may belong to another vault (see `manage.py vault`)

What is arriving, being worked on or moved is left alone, and so are objects younger than the grace period. It may run
while everything else does.
"""
EPILOG = """\
--fix looks at each finding again under a lock, and touches nothing that has changed meanwhile. A missing or damaged
object is replaced by a whole one with the same SHA-256 from the same workspace; a missing thumbnail is forgotten; an
orphan is removed once ORPHAN_GRACE_HOURS have passed since it was first seen, by this or by the sweep. What cannot be
put right is written into the file's history and found again the next time.

With --json there is one JSON object a line on stdout: one for each finding, with "kind", "storage", "name", "upload",
"workspace", "expected", "found", "detail" and "repaired"; and at the end {"summary": ...}, with how many files, objects
and thumbnails were looked at, the findings by kind, how many of them were repaired, and whether it was interrupted.

Exit codes: 0 all is well or was put right, 1 something is not, or the check could not be finished, 2 wrong usage, 130
after ctrl-C.
"""
MOST_PARALLEL = 64

KINDS = {
    Kind.MISSING: gettext_lazy("missing"),
    Kind.WRONG_SIZE: gettext_lazy("wrong size"),
    Kind.WRONG_HASH: gettext_lazy("wrong hash"),
    Kind.MISSING_THUMBNAIL: gettext_lazy("missing thumbnail"),
    Kind.ORPHANED: gettext_lazy("orphaned"),
    Kind.UNREADABLE: gettext_lazy("unreadable"),
    Kind.HELD: gettext_lazy("held"),
}
#: The counts of the inventory: looked at, then skipped.
COUNTS = (
    ("files", ngettext_lazy("Looked at %(count)d file.", "Looked at %(count)d files.", "count")),
    ("bytes_read", gettext_lazy("Read %(size)s.")),
    ("thumbnails", ngettext_lazy("Looked at %(count)d thumbnail.", "Looked at %(count)d thumbnails.", "count")),
    ("objects", ngettext_lazy("Looked at %(count)d object.", "Looked at %(count)d objects.", "count")),
    (
        "on_the_way",
        ngettext_lazy(
            "Left %(count)d file alone that is on its way.",
            "Left %(count)d files alone that are on their way.",
            "count",
        ),
    ),
    (
        "young_objects",
        ngettext_lazy(
            "Left %(count)d object alone that is too young to be an orphan.",
            "Left %(count)d objects alone that are too young to be orphans.",
            "count",
        ),
    ),
)
PUT_RIGHT = ngettext_lazy("Put %(count)d of these right.", "Put %(count)d of these right.", "count")


class Command(ProseCommand):
    help = DESCRIPTION
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--deep", action="store_true", help="Read every object and compare its hashes.")
        parser.add_argument("--fix", action="store_true", help="Put right what can be put right: see below.")
        parser.add_argument(
            "--workspace", metavar="W", help="Only the files of this one, by its short name or id; then no orphans."
        )
        parser.add_argument(
            "--storage",
            metavar="NAME",
            help="Only what lies in this one: local, s3, gcs or azure. Else in all of them.",
        )
        parser.add_argument(
            "--parallel", type=int, default=4, metavar="N", help=f"Objects at a time, 1 to {MOST_PARALLEL}; default 4."
        )
        parser.add_argument("--json", action="store_true", help="For programs: see below.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["parallel"] <= MOST_PARALLEL:
            raise usage_error(_("--parallel takes a number from 1 to %(most)d.") % {"most": MOST_PARALLEL})
        inventory = Inventory(
            workspace=workspace_named(options["workspace"]) if options["workspace"] else None,
            storage=aliases_to_look_at(options["storage"])[0] if options["storage"] else None,
            deep=options["deep"],
            fix=options["fix"],
            parallel=options["parallel"],
        )
        report = Report()
        try:
            with only_warnings_logged(verbosity=options["verbosity"]), stop_on_interrupt(inventory.stop):
                for finding, progress in self.look(inventory):
                    report.count(finding)
                    with progress.aside():
                        self.stdout.write(json.dumps(as_object(finding)) if options["json"] else line_of(finding))
        except StorageError as error:
            raise CommandError(_("The check could not be finished: %(why)s.") % {"why": error.detail}) from error
        if options["json"]:
            self.stdout.write(json.dumps({"summary": report.as_dict(inventory)}))
        else:
            self.stdout.write("\n".join([*report.lines(inventory), *kept_by(inventory)]))
        if inventory.was_stopped:
            sys.exit(INTERRUPTED)
        if report.found.total() > report.repaired:
            sys.exit(1)

    def look(self, inventory: Inventory) -> Iterator[tuple[Finding, Progress]]:
        total = inventory.rows().count()
        line = _("Looked at %(done)d of %(total)d files.")
        with Progress(self.stderr, total=total, unit=_("files"), line=line) as progress:
            for finding in inventory.look_at_files(progress.advance):
                yield finding, progress
        with Progress(self.stderr, total=None, unit=_("objects"), line=_("Looked at %(done)d objects.")) as progress:
            for finding in inventory.look_at_objects(progress.advance):
                yield finding, progress


class Report:
    def __init__(self) -> None:
        self.found: Counter[Kind] = Counter()
        self.repaired = 0
        self._started = time.monotonic()

    def count(self, finding: Finding) -> None:
        self.found[finding.kind] += 1
        self.repaired += finding.repaired

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._started, 3)

    def as_dict(self, inventory: Inventory) -> dict[str, Any]:
        return {
            **{name: inventory.counts[name] for name, _sentence in COUNTS},
            "found": {kind.value: self.found[kind] for kind in Kind},
            "repaired": self.repaired,
            "seconds": self.seconds,
            "interrupted": inventory.was_stopped,
        }

    def lines(self, inventory: Inventory) -> list[str]:
        lines = [
            sentence % {"count": count, "size": filesizeformat(count)}
            for name, sentence in COUNTS
            if (count := inventory.counts[name])
        ]
        lines.append(_("It took %(seconds)s seconds.") % {"seconds": f"{self.seconds:.1f}"})
        lines += [
            _("%(kind)s: %(count)d") % {"count": self.found[kind], "kind": name}
            for kind, name in KINDS.items()
            if self.found[kind]
        ]
        if self.repaired:
            lines.append(PUT_RIGHT % {"count": self.repaired})
        if inventory.was_stopped:
            lines.append(_("Stopped before the end."))
        elif not self.found:
            lines.append(_("All is well."))
        return lines


def line_of(finding: Finding) -> str:
    values = {
        "kind": KINDS[finding.kind],
        "name": escape(finding.name),
        "storage": finding.storage,
        "upload": finding.upload_id,
        "workspace": finding.workspace_id,
        "detail": finding.detail,
    }
    if finding.upload_id is None:
        line = _("%(kind)s: %(name)s (storage %(storage)s). %(detail)s") % values
    else:
        line = (
            _("%(kind)s: %(name)s (storage %(storage)s, file %(upload)s, workspace %(workspace)s). %(detail)s") % values
        )
    return (_("put right: %(finding)s") % {"finding": line} if finding.repaired else line).rstrip()


def as_object(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "storage": finding.storage,
        "name": finding.name,
        "upload": str(finding.upload_id) if finding.upload_id else None,
        "workspace": str(finding.workspace_id) if finding.workspace_id else None,
        "expected": finding.expected,
        "found": finding.found,
        "detail": finding.detail,
        "repaired": finding.repaired,
    }


def kept_by(inventory: Inventory) -> Iterator[str]:
    """For each storage that keeps purged objects, as far as known."""
    for alias, storage in inventory.storages().items():
        with suppress(StorageError), retry_policy(ONCE):
            keeping = storage.bucket.keeping() if storage.bucket is not None else Keeping()
            if keeping.versions or keeping.soft_days or keeping.lock:
                yield _("%(storage)s keeps what is purged: see `manage.py storage_doctor`.") % {"storage": alias}
