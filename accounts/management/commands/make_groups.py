from typing import Any

from django.contrib.auth.models import Group
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from accounts.groups import AUDITORS, OPERATORS, make_groups, staff_without_permissions
from audiotricks.management.prompt import ProseCommand

EPILOG = """\
Operators manage files, workspaces, members, limits, ordinary accounts and the schedule. Auditors may look at
everything and change nothing. Both need "Staff status" only to open the administration; the rights hold on the pages
and over the API too. Run again after an update, it adds the permissions of new tables and takes nothing away.
"""


class Command(ProseCommand):
    help = "Make the groups Operators and Auditors, and name the staff who have no permission."
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--add-staff",
            choices=[OPERATORS.lower(), AUDITORS.lower()],
            help="Add the staff who have no permission to this group.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        for group, added in make_groups().items():
            words = _("%(group)s: %(added)d permissions added, %(all)d in all")
            self.stdout.write(words % {"group": group.name, "added": added, "all": group.permissions.count()})
        people = list(staff_without_permissions())
        names = ", ".join(person.username for person in people)
        if not people:
            return
        if options["add_staff"]:
            group = Group.objects.get(name=options["add_staff"].capitalize())
            group.user_set.add(*people)
            self.stdout.write(_("Added to %(group)s: %(names)s") % {"group": group.name, "names": names})
        else:
            words = _("Staff without any permission, who see nothing in the administration: %(names)s")
            self.stdout.write(words % {"names": names}, self.style.WARNING)
