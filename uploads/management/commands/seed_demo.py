from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audiotricks.management.prompt import only_warnings_logged, usage_error
from quotas.demo import Login, login_file, prepare_demo
from quotas.models import Workspace
from uploads.demo import finish_processing, seed_samples, throw_away
from uploads.management.workspaces import owner_for, workspace_named

DEMO = Login().workspace
WAIT_SECONDS = 120


class Command(BaseCommand):
    help = (
        "Put sample recordings into a workspace: spoken and played, in several formats, with tags and pictures; one of"
        " them twice, one that is broken, one in the trash. A second run adds only what is not there."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--workspace",
            default=DEMO,
            metavar="W",
            help=f"Its short name or its id; by default {DEMO}, which is made with its users in an empty database.",
        )
        parser.add_argument(
            "--wait",
            action="store_true",
            help="End when all of them are processed, and do that here where no worker does.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with only_warnings_logged(verbosity=options["verbosity"]):
            if options["workspace"] == DEMO and not Workspace.objects.filter(slug=DEMO).exists():
                self.prepare()
            workspace = workspace_named(options["workspace"])
            owner = owner_for(workspace, None)
            seeded = seed_samples(workspace, owner=owner)
            in_time = finish_processing(seeded, within_seconds=WAIT_SECONDS) if options["wait"] else True
            throw_away(seeded, actor=owner)
        new = [each for each in seeded if each.is_new]
        for each in new:
            self.stdout.write(_("added: %(name)s") % {"name": each.sample.name})
        added = ngettext(
            "Added %(count)d recording to %(workspace)s.", "Added %(count)d recordings to %(workspace)s.", len(new)
        )
        self.stdout.write(added % {"count": len(new), "workspace": workspace.slug})
        if not in_time:
            raise CommandError(
                _("They were not processed within %(seconds)d seconds; a worker may still be busy with them.")
                % {"seconds": WAIT_SECONDS}
            )

    def prepare(self) -> None:
        settings.VAR_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        login = prepare_demo(settings.VAR_DIR)
        if login is None:
            raise usage_error(
                _(
                    "There is no workspace %(workspace)s, and its users are made in an empty database only. Name one of"
                    " yours with --workspace."
                )
                % {"workspace": DEMO}
            )
        self.stdout.write(
            _("Made the users %(user)s and %(admin)s; their passwords are in %(file)s.")
            % {"user": login.user, "admin": login.admin, "file": login_file(settings.VAR_DIR)}
        )
