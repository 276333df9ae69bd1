import json
import sys
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from audiotricks.management.prompt import ProseCommand, only_warnings_logged
from audiotricks.running.logs import escape
from objectstore.base import AudioStorage
from objectstore.errors import LifecycleByHand, LifecycleUnsupported, StorageError
from objectstore.rules import Effect, LifecyclePlan, Rule
from uploads.management.storages import storages_to_look_at

DESCRIPTION = """\
Put the rules in place by which a provider itself moves objects to classes that cost less:

  audio/, uploads/   after 30 days to a class that is dearer to read, and still read at once
  archive/           after 90 and 365 days to the provider's archives
  everywhere         parts of uploads that were never finished are removed

They are called AudioTricksLifecycle, where rules have names. Rules of others stay as they are. Run again, it finds
nothing to do.
"""
EPILOG = """\
Rules of others that remove files, or move files that are in use to where they cannot be read, are named on standard
error: AudioTricks would not know what happened to its files.

Exit codes: 0 the rules are in place, or would be after this dry run; 1 they are not, or those of others endanger
files; 2 wrong usage.
"""

ADDED, REMOVED = gettext_lazy("+ %(rule)s"), gettext_lazy("- %(rule)s")


class Command(ProseCommand):
    help = DESCRIPTION
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--storage", metavar="NAME", help="Only this one: s3, gcs or azure. Else all of them.")
        parser.add_argument("--dry-run", action="store_true", help="Say what would change, and change nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        all_well = True
        dry_run = options["dry_run"]
        with only_warnings_logged(verbosity=options["verbosity"]):
            for alias, storage in storages_to_look_at(options["storage"]).items():
                try:
                    all_well &= self.configure(alias, storage, dry_run=dry_run) or dry_run
                except (LifecycleByHand, LifecycleUnsupported) as error:
                    all_well &= dry_run
                    self.tell_error(alias, error)
                except StorageError as error:
                    all_well = False
                    self.tell_error(alias, error)
        if not all_well:
            sys.exit(1)

    def configure(self, alias: str, storage: AudioStorage, *, dry_run: bool) -> bool:
        """Whether the rules are as wanted afterwards. Raises StorageError."""
        if storage.rules is None:
            self.stdout.write(_("%(storage)s: has no rules of this kind.") % {"storage": alias})
            return True
        plan = storage.rules.plan()
        for line in lines_of(plan):
            self.stdout.write(_("%(storage)s: %(line)s") % {"storage": alias, "line": line})
        for threat in plan.threats:
            self.warn(alias, threat)
        if plan.changes and not dry_run:
            storage.rules.apply(plan)
            self.stdout.write(_("%(storage)s: the rules are in place.") % {"storage": alias})
        elif plan.changes:
            self.stdout.write(_("%(storage)s: nothing was changed, since this is a dry run.") % {"storage": alias})
        return not plan.threats

    def warn(self, alias: str, threat: Rule) -> None:
        values = {"storage": alias, "rule": described(threat)}
        self.stderr.write(
            _(
                "%(storage)s: DANGER. A rule that is not ours takes files away from AudioTricks: %(rule)s. Remove it, "
                "or keep it from the names that begin with audio/, uploads/ and archive/."
            )
            % values
        )

    def tell_error(self, alias: str, error: StorageError) -> None:
        self.stderr.write(_("%(storage)s: %(why)s") % {"storage": alias, "why": error.detail})
        if isinstance(error, LifecycleByHand):
            self.stderr.write(
                _(
                    "%(storage)s: otherwise add the rules below to the account's policy yourself. It has one for "
                    "all its containers, and the command replaces all of it: look first with `show` in place of "
                    "`create`."
                )
                % {"storage": alias}
            )
            self.stdout.write(json.dumps({"rules": error.members["rules"]}, indent=2))
            self.stdout.write(error.members["command"])


def lines_of(plan: LifecyclePlan) -> Iterator[str]:
    yield from (REMOVED % {"rule": described(rule)} for rule in plan.removed)
    yield from (ADDED % {"rule": described(rule)} for rule in plan.added)
    if not plan.changes:
        yield _("our rules are in place, there is nothing to do.")
    if plan.kept:
        yield ngettext(
            "%(count)d rule of others stays as it is.", "%(count)d rules of others stay as they are.", plan.kept
        ) % {"count": plan.kept}


def described(rule: Rule) -> str:
    places = ", ".join(escape(prefix) for prefix in rule.prefixes if prefix) or _("everywhere")
    effects = "; ".join(effect_in_words(effect) for effect in rule.effects) or _("does nothing")
    return _("%(name)s (%(places)s): %(effects)s") % {
        "name": escape(rule.name) or _("a rule without a name"),
        "places": places,
        "effects": effects,
    }


def effect_in_words(effect: Effect) -> str:
    values = {"class": effect.storage_class, "days": effect.days}
    match effect.action, effect.days:
        case "move", None:
            return _("to %(class)s") % values
        case "move", days:
            return ngettext("to %(class)s after %(days)d day", "to %(class)s after %(days)d days", days or 0) % values
        case "remove", None:
            return _("removes objects")
        case "remove", days:
            return (
                ngettext("removes objects after %(days)d day", "removes objects after %(days)d days", days or 0)
                % values
            )
        case _, days:
            return (
                ngettext(
                    "removes unfinished parts after %(days)d day",
                    "removes unfinished parts after %(days)d days",
                    days or 0,
                )
                % values
            )
