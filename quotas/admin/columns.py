import json
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from accounts.templatetags.people import grouped
from audiotricks.admin.base import confirmation
from audiotricks.batches import batched
from audiotricks.celery import send_on_commit
from quotas.models import LimitUse, StorageQuota, this_month

# Workspaces in one message to a worker.
BATCH = 500


def meter(use: LimitUse) -> SafeString:
    amount = filesizeformat if use.counts_bytes else grouped
    if use.maximum is None:
        return format_html("{}", amount(use.used))
    words = gettext("%(used)s of %(maximum)s") % {"used": amount(use.used), "maximum": amount(use.maximum)}
    return format_html(
        '<svg class="meter{}" aria-hidden="true"><rect width="{}%" height="100%"/></svg>{}',
        " full" if use.is_full else "",
        use.used_percent,
        words,
    )


def in_use(quota: StorageQuota, name: str) -> SafeString:
    return meter(next(use for use in quota.limits(month=this_month()) if use.name == name))


class LimitColumns:
    @display(description=_("Storage used"))
    def storage(self, quota: StorageQuota) -> SafeString:
        return in_use(quota, "max_storage_bytes")

    @display(description=_("Files"))
    def files(self, quota: StorageQuota) -> SafeString:
        return in_use(quota, "max_file_count")


def recalculate(
    model_admin: Any, request: HttpRequest, workspace_ids: Iterable[UUID], *, count: int, back: str = ""
) -> HttpResponseBase | None:
    explanation = ngettext(
        "The counters of %(count)d workspace are set to what its files add up to. "
        "Nobody is held up, and no file is touched.",
        "The counters of %(count)d workspaces are set to what their files add up to. "
        "Nobody is held up, and no file is touched.",
        count,
    )
    answer = confirmation(
        model_admin,
        request,
        title=gettext("Recalculate quotas"),
        explanation=explanation % {"count": count},
        button=gettext("Recalculate"),
        back=back,
    )
    if answer is not None:
        return answer
    for batch in batched(workspace_ids, BATCH):
        send_on_commit("uploads.tasks.recalculate_quotas", json.dumps([str(pk) for pk in batch]))
    message = gettext('A worker does this now. <a class="text-link" href="{}">See the result</a>.')
    address = reverse("admin:audiotricks_taskrun_changelist") + "?task=uploads.tasks.recalculate_quotas"
    model_admin.message_user(request, format_html(message, address), messages.SUCCESS)
    return None
