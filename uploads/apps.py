from datetime import timedelta

from celery.schedules import crontab
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from audiotricks.plug import HealthCheck, ProcessingStep, VaultApp
from uploads.lifecycle.sentences import SENTENCES


class UploadsConfig(VaultApp):
    name = "uploads"
    verbose_name = _("Files")

    processing_steps = {
        "uploads.processing.validation.validate": ProcessingStep(
            _("The check was passed: the bytes are what arrived, and they can be decoded.")
        ),
        "uploads.processing.description.describe": ProcessingStep(_("Length, codec and tags were read.")),
        "uploads.processing.artwork.attach_artwork": ProcessingStep(_("Looked for a picture in the tags.")),
    }
    periodic_tasks = {
        "Send lost work again": ("uploads.tasks.sweep_stale_work", timedelta(seconds=settings.SWEEP_SECONDS)),
        "Release stale reservations": ("uploads.tasks.sweep_stale_reservations", timedelta(minutes=5)),
        "Expire files": ("uploads.tasks.expire_uploads", timedelta(hours=1)),
        "Purge the trash": ("uploads.tasks.purge_trash", timedelta(hours=1)),
        "Remove orphaned objects": ("uploads.tasks.sweep_orphaned_objects", timedelta(hours=6)),
        "Look at the marks of storages": ("uploads.tasks.look_at_marks", timedelta(minutes=5)),
        "Note storage classes": ("uploads.tasks.note_storage_classes", timedelta(hours=24)),
        "Recalculate quotas": ("uploads.tasks.recalculate_quotas", crontab(hour="3", minute="15")),
    }
    health_checks = {
        "storage": HealthCheck("uploads.upkeep.health.check_storage"),
        "disk": HealthCheck("uploads.upkeep.health.check_disk"),
        "vault": HealthCheck("uploads.upkeep.health.check_vault", is_vital=False),
    }
    figures = (
        "uploads.admin.figures.vault_figures",
        "uploads.admin.figures.file_figures",
        "uploads.admin.figures.disk_figures",
    )
    sidebar = {
        "uploads.audioupload": (_("Files"), "graphic_eq"),
        "uploads.uploadevent": (_("Files"), "history"),
        "uploads.bulkaction": (_("Files"), "checklist"),
        "uploads.uploadsession": (_("Files"), "cloud_upload"),
        "uploads.storedobject": (_("Files"), "inventory_2"),
        "uploads.storagemark": (_("Files"), "verified_user"),
        "uploads.heldremoval": (_("Files"), "front_hand"),
    }
    event_sentences = SENTENCES
    file_actions = (
        "uploads.actions.trash.DELETE",
        "uploads.actions.trash.UNDELETE",
        "uploads.actions.trash.PURGE",
        "uploads.actions.holds.HOLD",
        "uploads.actions.holds.RELEASE",
        "uploads.actions.retry.RETRY",
        "uploads.actions.verify.VERIFY",
    )
    file_panels = {
        "uploads.pages.panels.facts": "",
        "uploads.pages.panels.rename": "",
        "uploads.pages.panels.link": "",
        "uploads.pages.panels.events": "",
    }
    api_urls = ("uploads.api.urls",)
    page_urls = ("uploads.pages.urls",)
