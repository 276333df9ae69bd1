"""deploy/nginx.conf knows which views take files; without nginx itself."""

import re
from uuid import uuid4

from audiotricks.web.streaming import streams_body
from tests.api.routes import VERBS, routes
from tests.running.programs import ROOT

CONFIGURATION = (ROOT / "deploy" / "nginx.conf").read_text()


def test_the_bodies_of_views_that_stream_pass_and_all_others_are_taken_in_first() -> None:
    unbuffered = re.findall(r"location ~ (\S+) \{[^}]*proxy_request_buffering off", CONFIGURATION)
    filled = {route.path: route.filled({**dict.fromkeys(route.parameters, uuid4()), "index": 7}) for route in routes()}
    streaming = {path for path in filled.values() if any(streams_body(verb, path) for verb in VERBS)}
    assert len(streaming) == 6
    assert {path for path in filled.values() if any(re.search(each, path) for each in unbuffered)} == streaming


def test_web_never_waits_for_a_slow_client_of_nginx() -> None:
    outside = re.sub(r"location [^{]*\{[^}]*\}", "", CONFIGURATION)
    for setting in ("proxy_request_buffering on", "proxy_buffering on", "limit_conn connections"):
        assert setting in outside
