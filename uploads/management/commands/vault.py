import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from audiotricks.errors import DomainError
from audiotricks.management.prompt import ProseCommand, usage_error
from objectstore import audio_storages
from objectstore.errors import StorageError
from uploads.models import HeldRemoval
from uploads.objects.brake import answer
from uploads.objects.marks import adopt, begin_grace_anew, look_at_mark, vault_id, why_held, words_for

DESCRIPTION = """\
Say which vault this database is, whose each configured storage is, and which removals wait for an answer; or decide.

Each storage carries a mark with the id of the vault that it belongs to. From a storage with another mark, or without
one where this database does not know the files that lie there, nothing is removed and no new file goes there.
"""
EPILOG = """\
--adopt NAME     The storage belongs to this vault. Another vault that uses it stops removing and storing there. Every
                 grace period of the storage begins anew.
--restored       The database was restored from a backup: every grace period of every storage begins anew. AudioTricks
                 sees by itself when a database is more than some minutes older than its storage.
--allow NUMBER   The sweep may remove what this question shows, and nothing that falls due later.
--decline NUMBER It stays.

Exit codes: 0 nothing waits for a decision, 1 something does, or a storage could not be asked, 2 wrong usage.
"""


class Command(ProseCommand):
    help = DESCRIPTION
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        choice = parser.add_mutually_exclusive_group()
        choice.add_argument("--adopt", metavar="NAME", help="See below.")
        choice.add_argument("--restored", action="store_true", help="See below.")
        choice.add_argument("--allow", metavar="NUMBER", type=int, help="See below.")
        choice.add_argument("--decline", metavar="NUMBER", type=int, help="See below.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["adopt"]:
                self.adopt(options["adopt"])
            if options["restored"]:
                begin_grace_anew()
            for name in ("allow", "decline"):
                if options[name] is not None:
                    self.answer(options[name], allowed=name == "allow")
        except DomainError as error:
            raise CommandError(error.detail) from error
        if not self.report():
            sys.exit(1)

    def adopt(self, alias: str) -> None:
        if alias not in audio_storages():
            raise usage_error(
                _("The storage “%(alias)s” is not configured. Configured are: %(aliases)s.")
                % {"alias": alias, "aliases": ", ".join(audio_storages())}
            )
        adopt(alias)

    def answer(self, number: int, *, allowed: bool) -> None:
        held = HeldRemoval.objects.filter(pk=number).first()
        if held is None:
            raise usage_error(_("There is no question with the number %(number)d.") % {"number": number})
        answer(held, allowed=allowed, actor=None)

    def report(self) -> bool:
        """Whether no decision waits."""
        all_well = True
        self.stdout.write(_("This vault: %(id)s") % {"id": vault_id()})
        marks = []
        for alias in audio_storages():
            try:
                marks.append(look_at_mark(alias))
            except StorageError as error:
                all_well = False
                self.stdout.write(_("%(alias)s: cannot be asked: %(why)s") % {"alias": alias, "why": error.detail})
        for mark in marks:
            why = why_held(mark)
            all_well &= not why
            self.stdout.write(f"{mark.alias}: {why or words_for(mark)}")
        for held in HeldRemoval.objects.exclude(state=HeldRemoval.State.FINISHED).select_related("workspace"):
            all_well &= held.state != HeldRemoval.State.ASKED
            self.stdout.write(
                _("%(number)d: %(sweep)s (%(where)s): %(count)d of %(total)d. %(state)s")
                % {
                    "number": held.pk,
                    "sweep": held.get_sweep_display(),
                    "where": held.workspace or held.storage_provider,
                    "count": held.count,
                    "total": held.total,
                    "state": held.get_state_display(),
                }
            )
        return all_well
