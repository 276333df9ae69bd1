"""Settings from the environment. An invalid value ends the process with one line."""

import os
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from zoneinfo import available_timezones

TRUE_WORDS = {"1", "true", "yes", "on"}
FALSE_WORDS = {"0", "false", "no", "off"}


class ConfigurationError(SystemExit):
    """Uncaught, prints one line on standard error and exits with status 1."""


def text(name: str, default: str = "") -> str:
    """Blank is not set, here and in all helpers below."""
    return os.environ.get(name) or default


def boolean(name: str, default: bool) -> bool:
    value = text(name).strip().lower()
    if not value:
        return default
    if value in TRUE_WORDS:
        return True
    if value in FALSE_WORDS:
        return False
    raise ConfigurationError(f"{name}={value!r} is not a boolean: write true or false.")


def integer(name: str, default: int, *, minimum: int = 0, maximum: int = 2**63 - 1) -> int:
    value = text(name).strip()
    if not value:
        return default
    try:
        number = int(value)
    except ValueError:
        raise ConfigurationError(f"{name}={value!r} is not a whole number.") from None
    if not minimum <= number <= maximum:
        raise ConfigurationError(f"{name}={number} must be between {minimum} and {maximum}.")
    return number


def limit(name: str, default: int | None) -> int | None:
    """``unlimited`` is None; 0 means zero."""
    if text(name).strip().lower() == "unlimited":
        return None
    if default is None and not text(name).strip():
        return None
    return integer(name, default or 0)


def fraction(name: str, default: float) -> float:
    value = text(name).strip()
    if not value:
        return default
    try:
        number = float(value)
    except ValueError:
        raise ConfigurationError(f"{name}={value!r} is not a number.") from None
    if not 0 <= number <= 1:
        raise ConfigurationError(f"{name}={number} must be between 0 and 1.")
    return number


def choice(name: str, default: str, choices: Sequence[str]) -> str:
    value = text(name).strip() or default
    if value not in choices:
        raise ConfigurationError(f"{name}={value!r} is not one of: {', '.join(choices)}.")
    return value


def time_zone(name: str, default: str) -> str:
    value = text(name).strip() or default
    if value not in available_timezones():
        raise ConfigurationError(f"{name}={value!r} is no time zone: use a name such as Europe/Berlin.")
    return value


def items(name: str, default: Sequence[str] = ()) -> list[str]:
    value = text(name)
    if not value.strip():
        return list(default)
    return [item.strip() for item in value.split(",") if item.strip()]


def networks(name: str, default: Sequence[str] = ()) -> list[str]:
    """IP addresses, networks (``10.0.0.0/8``) and ``*``, separated by commas."""
    found = items(name, default)
    for item in found:
        try:
            _ = item == "*" or ip_network(item)
        except ValueError:
            raise ConfigurationError(f"{name} names {item!r}, which is no IP address, network or *.") from None
    return found


def path(name: str, default: Path) -> Path:
    value = text(name).strip()
    return Path(value).expanduser().resolve() if value else default
