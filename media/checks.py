import sys
from typing import Any

from django.core.checks import CheckMessage, Warning, register

from media.confinement import available


@register
def check_confinement(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    missing = [name for name in ("Landlock", "seccomp") if name not in available()]
    if not missing or not sys.platform.startswith("linux"):
        return []
    return [
        Warning(
            f"Decoders run without {' and '.join(missing)}, which this kernel does not offer to them.",
            hint="They still have limits and no secrets. Run on Linux 5.13 or later (x86-64 or ARM64) to lock them in.",
            id="uploads.W010",
        )
    ]
