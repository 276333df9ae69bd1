import sys
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from audiotricks.errors import DomainError
from audiotricks.management.prompt import ProseCommand, only_warnings_logged
from audiotricks.running.logs import escape
from objectstore.errors import StorageError
from uploads.management.workspaces import workspace_named
from uploads.models import AudioUpload, AudioUploadQuerySet, Status
from uploads.processing.describing_again import describe_again

DESCRIPTION = """\
Read length, codec and tags of all completed files once more and store what is different, after an update that reads
them better. The files themselves stay as they are. It may be stopped and begun again at any time.
"""
EPILOG = """\
Exit codes: 0 all were read; 1 some could not be, and are named on standard error; 2 wrong usage.
"""
BATCH = 500


class Command(ProseCommand):
    help = DESCRIPTION
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--workspace", metavar="W", help="Only the files of this workspace: its id or short name.")

    def handle(self, *args: Any, **options: Any) -> None:
        uploads = AudioUpload.objects.filter(status=Status.COMPLETED)
        if options["workspace"]:
            uploads = uploads.in_workspace(workspace_named(options["workspace"]))
        read = changed = failed = 0
        with only_warnings_logged(verbosity=options["verbosity"]):
            for upload in one_by_one(uploads):
                try:
                    changed += describe_again(upload)
                    read += 1
                except (DomainError, StorageError) as error:
                    failed += 1
                    self.stderr.write(f"{upload.pk} {escape(upload.original_filename)}: {escape(str(error))}")
        counts = {"read": read, "changed": changed, "failed": failed}
        self.stdout.write(_("Read: %(read)d. Different: %(changed)d. Not read: %(failed)d.") % counts)
        if failed:
            sys.exit(1)


def one_by_one(uploads: AudioUploadQuerySet) -> Iterator[AudioUpload]:
    """Without an open database cursor."""
    last = None
    while batch := list((uploads if last is None else uploads.filter(pk__gt=last)).order_by("pk")[:BATCH]):
        yield from batch
        last = batch[-1].pk
