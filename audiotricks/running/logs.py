"""Logging of web, worker, beat and commands through one formatter, with ``request_id``, ``task_id`` and ``upload_id``.
Credentials are redacted, and characters escaped that could forge, hide or reorder a line.
"""

import json
import logging
import logging.config
import re
import unicodedata
from collections.abc import Mapping
from contextvars import Token
from typing import Any

import structlog
from celery.signals import setup_logging, task_postrun, task_prerun
from structlog.contextvars import bind_contextvars, merge_contextvars, reset_contextvars
from structlog.types import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"
SECRET_NAMES = frozenset(
    {
        "access_token",
        "api_key",
        "authorization",
        "cookie",
        "csrfmiddlewaretoken",
        "csrftoken",
        "password",
        "proxy_authorization",
        "refresh_token",
        "secret",
        "secret_key",
        "sessionid",
        "set_cookie",
        "sig",
        "signature",
        "token",
        "x_amz_credential",
        "x_amz_security_token",
        "x_amz_signature",
        "x_goog_credential",
        "x_goog_signature",
    }
)
SECRETS_IN_TEXT = (
    re.compile(r"(?i)(\b(?:bearer|basic|token)\s+)[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(
        r"(?i)((?:\b|(?<=_))(?:x-(?:amz|goog)-(?:signature|security-token|credential)|sig|signature|access_token|token"
        r"|api_?key|password|secret|sessionid|csrftoken|csrfmiddlewaretoken)[\"']?\s*[=:]\s*[\"']?)[^\s&;,\"'}]+"
    ),
    re.compile(r"(?i)((?:set-)?cookie[\"']?\s*:\s*)[^\r\n]+"),
    re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/@]+(?=@)"),
    # The URL of an upload session at Google suffices to write with it.
    re.compile(r"(?i)([?&]upload_id=)[^\s&\"'<>]+"),
    # The link for a forgotten password has its token in the path.
    re.compile(r"(/password/new/)[^\s\"'<>]+"),
)
# Libraries that log the address, headers and signed text of each request.
TALKATIVE = ("azure", "boto3", "botocore", "google", "msal", "s3transfer", "urllib3")
# Control and format characters (C0, C1, bidirectional, zero-width), line and paragraph separators, surrogates.
ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})


def configure(config: Mapping[str, Any]) -> None:
    """Django's LOGGING_CONFIG: ``{"level": "INFO", "format": "json" or "text"}``, to stderr."""
    before: list[Processor] = [
        merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            clean,
            render_json if config["format"] == "json" else render_text,
        ],
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"()": lambda: formatter}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"level": config["level"], "handlers": ["stderr"]},
            "loggers": {
                "django": {"level": "NOTSET", "handlers": [], "propagate": True},
                "django.server": {"level": "NOTSET", "handlers": [], "propagate": True},
                # The request's own line reports a 4xx; a scanner's guesses need no traceback.
                "django.request": {"level": "ERROR"},
                "django.security.DisallowedHost": {"level": "CRITICAL"},
                **{name: {"level": "WARNING"} for name in TALKATIVE},
            },
        }
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def clean(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Redact and escape every name and value. Tracebacks keep line breaks for the renderers."""
    traceback = event.pop("exception", None)
    cleaned = {escape(str(name)): clean_value(str(name), value) for name, value in event.items()}
    if traceback:
        cleaned["exception"] = "\n".join(escape(line) for line in redact(str(traceback)).split("\n"))
    return cleaned


def clean_value(name: str, value: Any) -> Any:
    if name.lower().replace("-", "_") in SECRET_NAMES and value is not None:
        return REDACTED
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {escape(str(key)): clean_value(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean_value("", item) for item in value]
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    return escape(redact(str(value)))


def redact(text: str) -> str:
    for pattern in SECRETS_IN_TEXT:
        text = pattern.sub(rf"\g<1>{REDACTED}", text)
    return text


def escape(text: str) -> str:
    r"""On one line, without terminal control: CR becomes ``\r``, ESC ``\x1b``, U+202E ``\u202e``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in ESCAPED_CATEGORIES
        else character
        for character in text
    )


def render_json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return json.dumps({**first, **event}, default=str)


def render_text(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """``time [level] event name=value``; tracebacks are marked by a bar."""
    traceback = event.pop("exception", "")
    head = [event.pop("timestamp", ""), f"[{event.pop('level', '')}]", event.pop("event", "")]
    event.pop("logger", None)
    line = " ".join([*map(str, head), *(f"{name}={text_value(value)}" for name, value in event.items())])
    return "\n".join([line, *(f"  | {part}" for part in str(traceback).split("\n") if part)])


def text_value(value: Any) -> str:
    """Quoted if it has blanks, so that it cannot pass for two."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if text and not re.search(r"[\s=\"']", text) else json.dumps(text, ensure_ascii=False)


@setup_logging.connect
def leave_logging_alone(**kwargs: Any) -> None:
    """A receiver of this signal keeps Celery from setting up logging."""


bound_by_task: dict[str, Mapping[str, Token[Any]]] = {}


@task_prerun.connect
def bind_task(task_id: str = "", task: Any = None, args: Any = (), **kwargs: Any) -> None:
    """Also binds the first argument of a task with ``log_argument="upload_id"``."""
    names = {"task_id": task_id, "task": task.name}
    if (argument := getattr(task, "log_argument", None)) and args:
        names[argument] = str(args[0])
    bound_by_task[task_id] = bind_contextvars(**names)


@task_postrun.connect
def unbind_task(task_id: str = "", **kwargs: Any) -> None:
    reset_contextvars(**bound_by_task.pop(task_id, {}))
