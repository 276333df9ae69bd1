from datetime import timedelta

from audiotricks.plug import HealthCheck, ProcessingStep, VaultApp


class PluggedConfig(VaultApp):
    name = "tests.plugged"
    label = "plugged"

    processing_steps = {
        "tests.plugged.work.listen": ProcessingStep(
            "Somebody listened.", after="uploads.processing.validation.validate"
        ),
    }
    follow_up_tasks = ("plugged.follow_up",)
    periodic_tasks = {"Wind the clock": ("plugged.wind", timedelta(hours=5))}
    health_checks = {"plug": HealthCheck("tests.plugged.work.check_plug", is_vital=False)}
    figures = ("tests.plugged.shown.figures",)
    sidebar = {"contenttypes.contenttype": ("Plugged in", "power")}
    event_sentences = {"plugged": ("%(actor)s pulled the plug.", "The plug was pulled.")}
    file_actions = ("tests.plugged.actions.APPLAUD",)
    file_panels = {"tests.plugged.shown.panel": "uploads.pages.panels.facts"}
    api_urls = ("tests.plugged.api_urls",)
    page_urls = ("tests.plugged.page_urls",)
    registers = ("tests.plugged.checks",)
