#!/usr/bin/env python
import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "audiotricks.settings")
    # Imported first: a wrong setting ends here with its one line instead of inside Django's command lookup.
    from django.core.management import execute_from_command_line

    import audiotricks.settings  # noqa: F401

    execute_from_command_line(sys.argv)
