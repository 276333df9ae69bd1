from django.utils.translation import gettext_lazy as _

from audiotricks.plug import VaultApp


class QuotasConfig(VaultApp):
    name = "quotas"
    verbose_name = _("Workspaces")

    sidebar = {
        "quotas.workspace": (_("Workspaces"), "workspaces"),
        "quotas.membership": (_("Workspaces"), "group"),
        "quotas.storagequota": (_("Workspaces"), "data_usage"),
        "quotas.quotareservation": (_("Workspaces"), "pending"),
    }
    api_urls = ("quotas.api.urls",)
    page_urls = ("quotas.pages.urls",)
