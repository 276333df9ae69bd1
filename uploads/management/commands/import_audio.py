import json
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
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
from uploads.intake.files.many import FileImport, FileResult, FoundFile, Result, find_files
from uploads.management.workspaces import owner_for, workspace_named

DESCRIPTION = """\
Take audio files of this machine into a workspace. Folders are walked all the way down; hidden files are
left out. Links to folders, and links to files outside the folder, are followed only where PATH names them.
Files that are no audio by their names are counted and left alone.

A file whose bytes are in the workspace already is skipped before anything is stored, and so is one that
lies in its trash: a run that ended early can simply be started again. A file that cannot go fails alone.
Where the quota has no room for a file, the others that are at least as large are no longer tried, smaller
ones are. Where the number of files is used up, the disk is full, or storage or database are out of order,
nothing more is tried.
"""
EPILOG = """\
With --json there is one JSON object a line on stdout: one for each file, with "path", "result", "size",
"upload", "code", "detail" and "cleaned_up", where "result" is stored, would_store, duplicate, in_trash,
not_audio, failed, not_tried or stopped; and at the end {"summary": ...} with counts, bytes and seconds.

Exit codes: 0 all is well (skipped files are), 1 something failed or was not tried, 2 wrong usage, 130
after ctrl-C, which gives up the files that are under way and leaves nothing of them.
"""
MOST_PARALLEL = 32

LINES = {
    Result.STORED: gettext_lazy("stored: %(path)s"),
    Result.WOULD_STORE: gettext_lazy("would be stored: %(path)s"),
    Result.DUPLICATE: gettext_lazy("skipped, is there already: %(path)s"),
    Result.IN_TRASH: gettext_lazy("skipped, is in the trash: %(path)s"),
    Result.NOT_AUDIO: gettext_lazy("skipped, no audio by its name: %(path)s"),
    Result.FAILED: gettext_lazy("FAILED: %(path)s: %(why)s"),
    Result.STOPPED: gettext_lazy("given up: %(path)s"),
}
FAILED_BEFORE = gettext_lazy("skipped, is there already and failed: %(path)s: %(why)s")
STOPPED_EARLY = gettext_lazy("Stopped before the end. Run this again to go on: what is stored will be skipped.")
#: Results that are shown above the bar.
WORTH_A_LINE = (Result.FAILED, Result.IN_TRASH, Result.STOPPED)
NOT_WELL = (Result.FAILED, Result.NOT_TRIED)


class Left(Enum):
    """The outcome of removing local files."""

    REMOVED = 1
    NOT_REMOVED = 2
    SKIPPED = 3


SENTENCES: tuple[tuple[Result | Left, Any], ...] = (
    (
        Result.STORED,
        ngettext_lazy(
            "Stored %(count)d file, %(size)s, in %(seconds)s seconds.",
            "Stored %(count)d files, %(size)s, in %(seconds)s seconds.",
            "count",
        ),
    ),
    (
        Result.WOULD_STORE,
        ngettext_lazy("Would store %(count)d file, %(size)s.", "Would store %(count)d files, %(size)s.", "count"),
    ),
    (
        Left.REMOVED,
        ngettext_lazy("Removed %(count)d file from here.", "Removed %(count)d files from here.", "count"),
    ),
    (
        Left.NOT_REMOVED,
        ngettext_lazy(
            "Could not remove %(count)d stored file from here; the log says why.",
            "Could not remove %(count)d stored files from here; the log says why.",
            "count",
        ),
    ),
    (
        Result.DUPLICATE,
        ngettext_lazy(
            "Skipped %(count)d file that is there already.",
            "Skipped %(count)d files that are there already.",
            "count",
        ),
    ),
    (
        Result.IN_TRASH,
        ngettext_lazy(
            "Skipped %(count)d file that is in the trash: take it out of there, or delete it for good and"
            " import again.",
            "Skipped %(count)d files that are in the trash: take them out of there, or delete them for good and"
            " import again.",
            "count",
        ),
    ),
    (
        Left.SKIPPED,
        ngettext_lazy(
            "Left %(count)d skipped file where it is.", "Left %(count)d skipped files where they are.", "count"
        ),
    ),
    (
        Result.NOT_AUDIO,
        ngettext_lazy(
            "Skipped %(count)d file that is no audio by its name.",
            "Skipped %(count)d files that are no audio by their names.",
            "count",
        ),
    ),
    (Result.STOPPED, ngettext_lazy("Gave up %(count)d file.", "Gave up %(count)d files.", "count")),
    (Result.FAILED, ngettext_lazy("%(count)d file FAILED.", "%(count)d files FAILED.", "count")),
    (
        Result.NOT_TRIED,
        ngettext_lazy(
            "Did not try %(count)d more file, for the same reason: run this again when that is put right.",
            "Did not try %(count)d more files, for the same reason: run this again when that is put right.",
            "count",
        ),
    ),
)


class Command(ProseCommand):
    help = DESCRIPTION
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="A file or a folder.")
        parser.add_argument("--workspace", required=True, metavar="W", help="Its short name or its id.")
        parser.add_argument(
            "--owner", metavar="USER", help="The owner of the files; by default the workspace's first owner."
        )
        parser.add_argument(
            "--cleanup",
            action="store_true",
            help="Remove each file once it is stored. What was skipped or failed stays, duplicates too.",
        )
        parser.add_argument(
            "--parallel", type=int, default=4, metavar="N", help=f"Files at a time, 1 to {MOST_PARALLEL}; default 4."
        )
        parser.add_argument("--dry-run", action="store_true", help="Read and judge the files, store nothing.")
        parser.add_argument("--json", action="store_true", help="For programs: see below.")

    def handle(self, *args: Any, **options: Any) -> None:
        paths: list[Path] = options["paths"]
        for path in paths:
            if not path.exists():
                raise usage_error(_("There is no %(path)s.") % {"path": escape(str(path))})
        if not 1 <= options["parallel"] <= MOST_PARALLEL:
            raise usage_error(_("--parallel takes a number from 1 to %(most)d.") % {"most": MOST_PARALLEL})
        workspace = workspace_named(options["workspace"])
        owner = owner_for(workspace, options["owner"])
        summary = Summary(cleanup=options["cleanup"])
        with (
            only_warnings_logged(verbosity=options["verbosity"]),
            Progress(self.stderr, total=total_bytes(paths) if self.stderr.isatty() else None, unit="B") as progress,
        ):
            positions = Positions(progress)
            run = FileImport(
                workspace=workspace,
                owner=owner,
                parallel=options["parallel"],
                cleanup=options["cleanup"],
                dry_run=options["dry_run"],
                on_read=positions.move,
            )
            with stop_on_interrupt(run.stop):
                for result in run.run(find_files(paths)):
                    summary.count(result)
                    positions.finish(result.file)
                    self.tell(result, progress, as_json=options["json"], everything=options["verbosity"] > 1)
        if options["json"]:
            self.stdout.write(json.dumps({"summary": summary.as_dict() | {"interrupted": run.was_stopped}}))
        else:
            self.stdout.write("\n".join(summary.lines(dry_run=options["dry_run"], interrupted=run.was_stopped)))
        if run.was_stopped:
            sys.exit(INTERRUPTED)
        if any(summary.counts[result] for result in NOT_WELL):
            sys.exit(1)

    def tell(self, result: FileResult, progress: Progress, *, as_json: bool, everything: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(as_object(result)))
        elif result.result in LINES and (everything or not progress.is_bar or result.result in WORTH_A_LINE):
            line = FAILED_BEFORE if result.result == Result.DUPLICATE and result.detail else LINES[result.result]
            with progress.aside():
                message = str(line) % {"path": escape(str(result.file.path)), "why": escape(result.detail)}
                self.stderr.write(message, str)


def as_object(result: FileResult) -> dict[str, Any]:
    return {
        "path": str(result.file.path),
        "result": result.result,
        "size": result.file.size,
        "upload": str(result.upload_id) if result.upload_id else None,
        "code": result.code,
        "detail": result.detail,
        "cleaned_up": result.cleaned_up,
    }


def total_bytes(paths: list[Path]) -> int:
    return sum(file.size for file in find_files(paths))


class Positions:
    """Several threads, one bar in bytes."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._reached: dict[Path, int] = {}

    def move(self, path: Path, position: int) -> None:
        with self._lock:
            self._progress.advance(position - self._reached.get(path, 0))
            self._reached[path] = position

    def finish(self, file: FoundFile) -> None:
        with self._lock:
            self._progress.advance(file.size - self._reached.pop(file.path, 0))


@dataclass
class Summary:
    """Files by result, and stored bytes."""

    cleanup: bool
    counts: Counter[Result] = field(default_factory=Counter)
    stored_bytes: int = 0
    cleaned_up: int = 0
    started: float = field(default_factory=time.monotonic)

    def count(self, result: FileResult) -> None:
        self.counts[result.result] += 1
        self.cleaned_up += result.cleaned_up
        if result.result in (Result.STORED, Result.WOULD_STORE):
            self.stored_bytes += result.file.size

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.started, 3)

    def as_dict(self) -> dict[str, Any]:
        return {
            **{result.value: self.counts[result] for result in Result},
            "bytes": self.stored_bytes,
            "seconds": self.seconds,
            "cleaned_up": self.cleaned_up,
        }

    def lines(self, *, dry_run: bool, interrupted: bool) -> list[str]:
        always = Result.WOULD_STORE if dry_run else Result.STORED
        values = {"size": filesizeformat(self.stored_bytes), "seconds": f"{self.seconds:.1f}"}
        sentences = [
            sentence % {"count": count, **values}
            for what, sentence in SENTENCES
            if (count := self.number(what)) or what == always
        ]
        return sentences + [str(STOPPED_EARLY)] * interrupted

    def number(self, what: "Result | Left") -> int:
        match what:
            case Left.REMOVED:
                return self.cleaned_up
            case Left.NOT_REMOVED:
                return self.counts[Result.STORED] - self.cleaned_up if self.cleanup else 0
            case Left.SKIPPED:
                return self.counts[Result.DUPLICATE] + self.counts[Result.IN_TRASH] if self.cleanup else 0
            case Result():
                return self.counts[what]
