import sys
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audiotricks.management.prompt import ProseCommand
from audiotricks.running.logs import escape
from uploads.management.storages import aliases_to_look_at
from uploads.upkeep.doctor import Finding, Outcome, examine_storage

DESCRIPTION = """\
Try everything that AudioTricks needs of a storage, for real: settings, address and clock, bucket, write, read, list,
copy, large files, signed URLs, direct uploads, rules, delete. Says of what does not work what to do about it.

It writes a few megabytes under doctor/ and removes them again; what is stored is not touched.
"""
EPILOG = """\
Exit codes: 0 all that is needed works, 1 something does not, 2 wrong usage.
"""
OUTCOMES = {
    Outcome.OK: gettext_lazy("ok"),
    Outcome.FAILED: gettext_lazy("failed"),
    Outcome.LIMITED: gettext_lazy("does not work, not needed"),
    Outcome.UNSUPPORTED: gettext_lazy("not supported"),
}


class Command(ProseCommand):
    help = DESCRIPTION
    epilog = EPILOG
    # It explains faulty settings in more words than a system check, which would stop it.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--storage", metavar="NAME", help="Only this one: local, s3, gcs or azure. Else all of them."
        )
        parser.add_argument("--create", action="store_true", help="Make the bucket, if it is not there.")

    def handle(self, *args: Any, **options: Any) -> None:
        all_well = True
        for alias in aliases_to_look_at(options["storage"]):
            for finding in examine_storage(alias, create=options["create"]):
                self.stdout.write(line_of(alias, finding))
                all_well &= finding.outcome is not Outcome.FAILED
        if not all_well:
            sys.exit(1)


def line_of(alias: str, finding: Finding) -> str:
    values = {
        "storage": alias,
        "step": finding.step,
        "outcome": OUTCOMES[finding.outcome],
        "detail": escape(str(finding.detail)).removesuffix("."),
        "advice": finding.advice,
    }
    if finding.advice:
        return _("%(storage)s: %(step)s: %(outcome)s: %(detail)s. %(advice)s") % values
    if finding.detail:
        return _("%(storage)s: %(step)s: %(outcome)s (%(detail)s)") % values
    return _("%(storage)s: %(step)s: %(outcome)s") % values
