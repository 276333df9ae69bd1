"""The settings, but each request opens a database connection of its own."""

from audiotricks.settings import *  # noqa: F403
from audiotricks.settings import DATABASES

DATABASES["default"]["OPTIONS"].pop("pool")
