from typing import Any

from django.core.checks import CheckMessage, Warning, register


@register
def check_plug(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    return [Warning("The plug is loose.", id="plugged.W001")]
