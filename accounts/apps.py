from datetime import timedelta

from django.utils.translation import gettext_lazy as _

from audiotricks.plug import VaultApp


class AccountsConfig(VaultApp):
    name = "accounts"
    verbose_name = _("Accounts")

    periodic_tasks = {
        "Forget ended sessions and old events": ("accounts.tasks.forget_expired", timedelta(hours=1)),
    }
    sidebar = {
        "auth.user": (_("People"), "person"),
        "auth.group": (_("People"), "groups"),
        "audiotricks.apitoken": (_("People"), "key"),
        "audiotricks.auditevent": (_("People"), "policy"),
    }
    api_urls = ("accounts.api.urls",)
    page_urls = ("accounts.pages.urls",)
    registers = ("accounts.checks", "accounts.events")
