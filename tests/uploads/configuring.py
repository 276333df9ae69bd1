"""`manage.py configure_lifecycle`, as a person runs it."""

import io
from typing import Any

from django.core.management import call_command


def run(*, code: int = 0, **options: Any) -> tuple[str, str]:
    """What ``configure_lifecycle`` writes to standard output and error."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("configure_lifecycle", stdout=out, stderr=err, no_color=True, **options)
        ended = 0
    except SystemExit as error:
        ended = error.code
    assert ended == code, (out.getvalue(), err.getvalue())
    return out.getvalue(), err.getvalue()
