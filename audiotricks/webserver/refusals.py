import structlog
from gunicorn.http import errors as http_errors

from audiotricks.errors import DomainError, RequestTimeout
from audiotricks.web import problems
from audiotricks.web.middleware import DEFAULT_HEADERS

CODES: dict[type[Exception], str] = {
    http_errors.LimitRequestLine: "uri_too_long",
    http_errors.LimitRequestHeaders: "headers_too_large",
    http_errors.UnsupportedTransferCoding: "transfer_coding_unknown",
    http_errors.ExpectationFailed: "expectation_failed",
    http_errors.ParseException: "malformed_request",
}

log = structlog.get_logger(__name__)


def refusal(error: BaseException) -> bytes:
    """A whole HTTP response with the problem document, which closes the connection."""
    if isinstance(error, TimeoutError):
        error = RequestTimeout()
    problem = problems.problem_from(error) if isinstance(error, DomainError) else None
    if problem is None:
        code = next((code for kind, code in CODES.items() if isinstance(error, kind)), "server_error")
        problem = problems.general_problem(code)
        if code == "server_error":
            log.error("A request could not be handled.", exc_info=error)
        else:
            log.info("A request could not be read.", error=type(error).__name__)
    response = problems.json_answer(problem)
    for name, value in DEFAULT_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Content-Length"] = str(len(response.content))
    response.headers["Connection"] = "close"
    head = f"HTTP/1.1 {response.status_code} {response.reason_phrase}\r\n".encode()
    return bytes(head + response.serialize_headers() + b"\r\n\r\n" + response.content)
