from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from accounts.models import ApiToken
from accounts.tokens import LONGEST_DAYS, create_token
from audiotricks.management.prompt import ProseCommand, usage_error, user_named

EPILOG = """\
The secret, and nothing else, goes to standard output. It is stored as a digest only and cannot be shown
again: TOKEN=$(python manage.py create_token olga --name backup)

Exit codes: 0 the token is made, 1 the user may not have one, 2 wrong usage.
"""
LONGEST_NAME = ApiToken._meta.get_field("name").max_length or 100


class Command(ProseCommand):
    help = "Make an API token for a user."
    epilog = EPILOG

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="The owner of the token.")
        parser.add_argument("--name", required=True, metavar="N", help="What it is for.")
        parser.add_argument("--read-only", action="store_true", help="It may look at everything and change nothing.")
        lasts = parser.add_mutually_exclusive_group()
        lasts.add_argument(
            "--days", type=int, default=settings.TOKEN_DAYS, help=f"How long it lasts; default {settings.TOKEN_DAYS}."
        )
        lasts.add_argument("--never", action="store_true", help="It never expires.")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"].strip()
        if not name or len(name) > LONGEST_NAME:
            raise usage_error(_("--name takes 1 to %(most)d characters.") % {"most": LONGEST_NAME})
        # The installation's default may be longer.
        most = max(LONGEST_DAYS, settings.TOKEN_DAYS)
        if not 1 <= options["days"] <= most:
            raise usage_error(_("--days takes a number from 1 to %(most)d.") % {"most": most})
        user = user_named(options["user"])
        if not user.is_active:
            raise CommandError(_("%(user)s is not active: a token would not be accepted.") % {"user": user.username})
        expires_in = None if options["never"] else timedelta(days=options["days"])
        scope = ApiToken.Scope.READ if options["read_only"] else ApiToken.Scope.FULL
        token, secret = create_token(user, name=name, expires_in=expires_in, scope=scope)
        self.stdout.write(secret)
        if token.expiry is None:
            self.stderr.write(_("It never expires."), self.style.NOTICE)
        else:
            until = date_format(token.expiry, "DATETIME_FORMAT")
            self.stderr.write(_("It expires: %(moment)s") % {"moment": until}, self.style.NOTICE)
