import sys
import threading
import time
from collections import Counter
from typing import Any

from django.core.management.base import CommandParser
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from audiotricks.errors import DomainError
from audiotricks.management.prompt import (
    INTERRUPTED,
    Progress,
    ProseCommand,
    only_warnings_logged,
    stop_on_interrupt,
    usage_error,
)
from audiotricks.running.logs import escape
from objectstore import default_alias
from uploads.management.workspaces import workspace_named
from uploads.upkeep.moving import MovedObject, Outcome, StorageMove

DESCRIPTION = """\
Move stored files from one configured storage to another while people use them. Each object is copied, compared by
its hashes, and then all files that share it are switched over at once. Every file can be read all the time, and a run
that ended early can simply be started again.

What was moved stays where it was for ORPHAN_GRACE_HOURS, for signed URLs and for backups; then the sweep of orphaned
objects removes it, and asks first where that is much (see manage.py vault). What is being processed, archived or
restored is tried again at the end, and then left to the next run; so is what cannot be read before it is restored. New
files go where AUDIO_STORAGE says.
"""
EPILOG = """\
Exit codes: 0 everything was moved, 1 something was not, 2 wrong usage, 130 after ctrl-C, after the current objects.
"""
MOST_PARALLEL = 32

LINES = {
    Outcome.MOVED: gettext_lazy("moved: %(name)s"),
    Outcome.BUSY: gettext_lazy("left for the next run, is being worked on: %(name)s"),
    Outcome.ARCHIVED: gettext_lazy("left, has to be restored first: %(name)s"),
    Outcome.IN_THE_WAY: gettext_lazy("left for a later run, another object has its name there: %(name)s"),
    Outcome.FAILED: gettext_lazy("FAILED: %(name)s: %(why)s"),
}
SENTENCES: dict[Outcome, Any] = {
    Outcome.BUSY: ngettext_lazy(
        "Left %(count)d object that is being worked on: run this again.",
        "Left %(count)d objects that are being worked on: run this again.",
        "count",
    ),
    Outcome.ARCHIVED: ngettext_lazy(
        "Left %(count)d object that has to be restored before it can be read.",
        "Left %(count)d objects that have to be restored before they can be read.",
        "count",
    ),
    Outcome.IN_THE_WAY: ngettext_lazy(
        "Left %(count)d object whose name is taken by an unknown one in the other storage: run this again after the "
        "next sweep of orphaned objects.",
        "Left %(count)d objects whose names are taken by unknown ones in the other storage: run this again after the "
        "next sweep of orphaned objects.",
        "count",
    ),
    Outcome.FAILED: ngettext_lazy("%(count)d object FAILED.", "%(count)d objects FAILED.", "count"),
}
WELL = (Outcome.MOVED, Outcome.GONE)


class Command(ProseCommand):
    help = DESCRIPTION
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--from", required=True, dest="source", metavar="A", help="Where the files lie: local, s3, gcs or azure."
        )
        parser.add_argument("--to", required=True, dest="target", metavar="B", help="Where they are to lie.")
        parser.add_argument("--workspace", metavar="W", help="Only the files of this one, by its short name or id.")
        parser.add_argument("--limit", type=int, metavar="N", help="At most so many objects.")
        parser.add_argument(
            "--parallel", type=int, default=2, metavar="N", help=f"Objects at a time, 1 to {MOST_PARALLEL}; default 2."
        )
        parser.add_argument("--dry-run", action="store_true", help="Say how much there is to move, and move nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["parallel"] <= MOST_PARALLEL:
            raise usage_error(_("--parallel takes a number from 1 to %(most)d.") % {"most": MOST_PARALLEL})
        if options["limit"] is not None and options["limit"] < 1:
            raise usage_error(_("--limit takes a number from 1 on."))
        position = Position()
        try:
            move = StorageMove(
                options["source"],
                options["target"],
                workspace=workspace_named(options["workspace"]) if options["workspace"] else None,
                limit=options["limit"],
                parallel=options["parallel"],
                on_bytes=position.advance,
            )
        except DomainError as error:
            raise usage_error(str(error.detail)) from error
        extent = move.extent()
        if options["dry_run"]:
            self.stdout.write(
                ngettext("Would move %(count)d file, %(size)s.", "Would move %(count)d files, %(size)s.", extent.files)
                % {"count": extent.files, "size": filesizeformat(extent.size)}
            )
            return
        if default_alias() == options["source"]:
            self.stderr.write(_("New files still go to %(storage)s: see AUDIO_STORAGE.") % {"storage": default_alias()})
        summary = Summary()
        with only_warnings_logged(verbosity=options["verbosity"]), stop_on_interrupt(move.stop):
            line = _("Carried %(done)d of %(total)d bytes.")
            with Progress(self.stderr, total=extent.size, unit="B", line=line) as progress:
                position.progress = progress
                for result in move.run():
                    summary.count(result)
                    self.tell(result, progress, everything=options["verbosity"] > 1)
            self.stdout.write("\n".join(summary.lines(move)))
        if left := summary.counts[Outcome.MOVED]:
            self.stdout.write(
                ngettext(
                    "Left %(count)d moved object where it was: the sweep of orphaned objects removes it.",
                    "Left %(count)d moved objects where they were: the sweep of orphaned objects removes them.",
                    left,
                )
                % {"count": left}
            )
        if move.was_stopped:
            sys.exit(INTERRUPTED)
        if move.gave_up or any(count for outcome, count in summary.counts.items() if outcome not in WELL):
            sys.exit(1)

    def tell(self, result: MovedObject, progress: Progress, *, everything: bool) -> None:
        if result.outcome in LINES and (everything or result.outcome not in WELL):
            with progress.aside():
                message = str(LINES[result.outcome]) % {"name": escape(result.name), "why": escape(result.detail)}
                self.stderr.write(message, str)


class Position:
    """Reported by several threads."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self._lock = threading.Lock()

    def advance(self, count: int) -> None:
        with self._lock:
            if self.progress is not None:
                self.progress.advance(count)


class Summary:
    def __init__(self) -> None:
        self.counts: Counter[Outcome] = Counter()
        self._files = 0
        self._bytes = 0
        self._started = time.monotonic()

    def count(self, result: MovedObject) -> None:
        self.counts[result.outcome] += 1
        self._files += result.files
        self._bytes += result.size

    def lines(self, move: StorageMove) -> list[str]:
        values = {
            "count": self._files,
            "size": filesizeformat(self._bytes),
            "seconds": f"{time.monotonic() - self._started:.1f}",
        }
        moved = ngettext(
            "Moved %(count)d file, %(size)s, in %(seconds)s seconds.",
            "Moved %(count)d files, %(size)s, in %(seconds)s seconds.",
            self._files,
        )
        lines = [moved % values]
        lines += [
            sentence % {"count": count} for outcome, sentence in SENTENCES.items() if (count := self.counts[outcome])
        ]
        if move.gave_up:
            lines.append(_("Gave up: the others would fail as well. Put that right, then run this again."))
        elif move.was_stopped:
            lines.append(_("Stopped before the end. Run this again to go on."))
        if coming := move.on_their_way():
            lines.append(
                ngettext(
                    "%(count)d file is still arriving where you move from, or is being worked on: run this again.",
                    "%(count)d files are still arriving where you move from, or are being worked on: run this again.",
                    coming,
                )
                % {"count": coming}
            )
        return lines
