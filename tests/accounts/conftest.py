"""Fixtures for tests about people: sign-in, tokens, passwords. All speak to the real addresses."""

from tests.audiotricks.conftest import api, log_in_format, site, user, visitor

__all__ = ["api", "log_in_format", "site", "user", "visitor"]
