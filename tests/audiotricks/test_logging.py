import json
import logging
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
import structlog
from celery import shared_task
from celery.signals import setup_logging
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars, get_contextvars

from audiotricks.running import logs

Writer = Callable[[str], StringIO]
SECRET = "s3cr3t-Value_0123456789"
FORGED = 'x.mp3\n{"event": "forged"}\r\n2026-01-01T00:00:00Z [info] forged user=admin'


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize(
    "name",
    [FORGED, "a\rb", "a\x1b[2Jb", "a\u2028b", "a\u2029b", "a\u202eb\u2066c", "a\x85b", "a\x00b", "a\x7fb", "a\ud800b"],
)
def test_no_name_forges_or_hides_a_line(log_in_format: Writer, format: str, name: str) -> None:
    """Promise 49. Wherever a name stands, in both formats, its line stays one line of visible characters."""
    log = log_in_format(format)
    structlog.get_logger("test").info("stored", filename=name, nested={"names": [name], name: 1})
    structlog.get_logger("test").info(name)
    logging.getLogger("test").warning("stored %s", name)
    logging.getLogger("test").warning(f"stored {name}")
    written = log.getvalue()
    assert written.count("\n") == 4
    assert len(written.splitlines()) == 4
    assert all(character.isprintable() for line in written.split("\n") for character in line)
    if format == "json":
        for line in written.splitlines():
            values = json.dumps(json.loads(line), ensure_ascii=False)
            assert name not in json.loads(line)["event"]
            assert all(character.isprintable() for character in values)


def test_a_value_in_text_cannot_pass_for_two(log_in_format: Writer) -> None:
    """Promise 49."""
    log = log_in_format("text")
    structlog.get_logger("test").info("stored", filename="a.mp3 level=error user=admin", size=3, other='a"b')
    assert 'filename="a.mp3 level=error user=admin" size=3 other="a\\"b"' in log.getvalue()


@pytest.mark.parametrize("format", ["json", "text"])
def test_a_traceback_cannot_forge_a_line(log_in_format: Writer, format: str) -> None:
    """Promise 49. An exception's message may hold a name as the user gave it."""
    log = log_in_format(format)
    try:
        raise ValueError(FORGED)
    except ValueError:
        structlog.get_logger("test").exception("failed")
        logging.getLogger("test").exception("failed")
    lines = log.getvalue().splitlines()
    assert "ValueError" in log.getvalue()
    if format == "json":
        assert len(lines) == 2
    else:
        own = [line for line in lines if not line.startswith("  | ")]
        assert len(own) == 2
        assert all(line.endswith("] failed") for line in own)


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"authorization=Basic {SECRET}",
        f"GET https://s3.example/b/k?X-Amz-Signature={SECRET}&X-Amz-Date=1",
        f"https://x.blob.example/c/b?sv=1&sig={SECRET}",
        f"/content/?signature={SECRET}",
        f"https://storage.example/b/o?X-Goog-Signature={SECRET}",
        f"PUT https://storage.example/upload/b/o?uploadType=resumable&upload_id={SECRET} failed",
        f"Cookie: sessionid={SECRET}; theme=dark",
        f"Set-Cookie: sessionid={SECRET}",
        f"{{'token': '{SECRET}'}}",
        f'{{"password": "{SECRET}"}}',
        f"connection to postgresql://user:{SECRET}@db/x failed",
        f"redis://:{SECRET}@redis:6379/0",
    ],
)
def test_credentials_are_never_logged(log_in_format: Writer, format: str, text: str) -> None:
    """Promise 49. Wherever they stand: in a message, in a value, in a traceback."""
    log = log_in_format(format)
    structlog.get_logger("test").info(text, address=text, items=[text])
    logging.getLogger("test").info("%s", text)
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("test").exception("failed")
    assert log.getvalue().count("[redacted]") >= 5
    assert SECRET not in log.getvalue()


@pytest.mark.parametrize("name", ["token", "Authorization", "X-Amz-Signature", "password", "Cookie", "secret_key"])
def test_a_value_whose_name_says_that_it_is_secret_is_never_logged(log_in_format: Writer, name: str) -> None:
    """Promise 49."""
    log = log_in_format("json")
    structlog.get_logger("test").info("request", headers={name: SECRET}, **{name: SECRET})
    assert SECRET not in log.getvalue()


def test_names_in_other_scripts_stay_readable(log_in_format: Writer) -> None:
    log = log_in_format("text")
    structlog.get_logger("test").info("stored", filename="Müllers_Größe_日本語.mp3")
    assert "filename=Müllers_Größe_日本語.mp3" in log.getvalue()


def test_values_of_any_kind_can_be_logged(log_in_format: Writer) -> None:
    log = log_in_format("json")
    structlog.get_logger("test").info("x", raw=b"\xff\n", number=1.5, none=None, flag=True, error=ValueError("a\nb"))
    line = json.loads(log.getvalue())
    assert (line["raw"], line["number"], line["none"], line["flag"]) == ("\\xff\\n", 1.5, None, True)
    assert line["error"] == "a\\nb"


def test_the_level_holds_for_both_kinds_of_loggers(log_in_format: Writer) -> None:
    log = log_in_format("json")
    structlog.get_logger("test").debug("hidden")
    logging.getLogger("test").debug("hidden")
    assert log.getvalue() == ""


@shared_task(name="tests.log_something", log_argument="upload_id")
def log_something(upload_id: str) -> None:
    structlog.get_logger("test").info("working")
    logging.getLogger("test").info("working")


@pytest.fixture
def no_context() -> Any:
    clear_contextvars()
    yield
    clear_contextvars()


def test_every_line_of_a_task_carries_its_id_and_its_upload(log_in_format: Writer, no_context: None) -> None:
    log = log_in_format("json")
    log_something.apply(args=["a1"], task_id="t1")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    working = [line for line in lines if line["event"] == "working"]
    assert len(working) == 2
    assert {(line["task_id"], line["task"], line["upload_id"]) for line in working} == {
        ("t1", "tests.log_something", "a1")
    }
    assert get_contextvars() == {}


def test_a_task_inside_a_request_leaves_the_requests_id_bound(no_context: None) -> None:
    with bound_contextvars(request_id="r1", task_id="outer"):
        log_something.apply(args=["a1"], task_id="t1")
        assert get_contextvars() == {"request_id": "r1", "task_id": "outer"}


def test_celery_sets_up_no_logging_of_its_own(log_in_format: Writer) -> None:
    log_in_format("json")
    before = logging.getLogger().handlers[:]
    answers = setup_logging.send(sender=None, loglevel=logging.DEBUG, logfile=None, format="", colorize=False)
    assert logs.leave_logging_alone in [receiver for receiver, _ in answers]
    assert logging.getLogger().handlers == before


def test_bound_values_pass_the_same_filters(log_in_format: Writer, no_context: None) -> None:
    """Promise 49."""
    log = log_in_format("text")
    bind_contextvars(path="/x\n/y?signature=" + SECRET)
    logging.getLogger("test").info("request")
    assert log.getvalue().count("\n") == 1
    assert SECRET not in log.getvalue()
