"""Whose address a request is counted and logged under."""

from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from rest_framework.throttling import AnonRateThrottle

from audiotricks import env
from audiotricks.addresses import client_address
from audiotricks.web.middleware import ClientAddressMiddleware

PROXY, CLIENT = "10.0.0.1", "203.0.113.9"


@pytest.fixture(autouse=True)
def behind_a_proxy(settings: Any) -> None:
    settings.BEHIND_PROXY, settings.FORWARDED_ALLOW_IPS = True, ["10.0.0.0/24", "::1"]


def asked(peer: str, **headers: str) -> HttpRequest:
    return RequestFactory().get("/", REMOTE_ADDR=peer, headers={n.replace("_", "-"): v for n, v in headers.items()})


@pytest.mark.parametrize(
    ("peer", "told", "address"),
    [
        (PROXY, CLIENT, CLIENT),
        (PROXY, f"198.51.100.7, {CLIENT}", CLIENT),
        (PROXY, f"198.51.100.7, {CLIENT}, 10.0.0.2", CLIENT),
        (PROXY, "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (PROXY, "", PROXY),
        (PROXY, "unknown", PROXY),
        (PROXY, f"x, {CLIENT}", CLIENT),
        (PROXY, f"{CLIENT}:4711", CLIENT),
        (PROXY, "2001:DB8:0::5", "2001:db8::5"),
        (PROXY, '"[2001:db8::5]:4711"', "2001:db8::5"),
        (PROXY, f"::ffff:{CLIENT}", CLIENT),
        (PROXY, "fe80::1%eth0", "fe80::1"),
        ("::ffff:10.0.0.1", CLIENT, CLIENT),
        ("::1", CLIENT, CLIENT),
        ("", CLIENT, CLIENT),
        ("10.0.1.1", CLIENT, "10.0.1.1"),
        ("198.51.100.7", CLIENT, "198.51.100.7"),
    ],
)
def test_the_client_is_the_last_address_that_is_no_proxy(peer: str, told: str, address: str) -> None:
    assert client_address(asked(peer, X_Forwarded_For=told)) == address


def test_where_every_peer_is_believed_only_the_last_address_is(settings: Any) -> None:
    settings.FORWARDED_ALLOW_IPS = ["*"]
    assert client_address(asked("192.0.2.1", X_Forwarded_For=f"198.51.100.7, {CLIENT}")) == CLIENT


def test_without_a_proxy_nobody_chooses_an_address(settings: Any) -> None:
    settings.BEHIND_PROXY = False
    assert client_address(asked(PROXY, X_Forwarded_For=CLIENT)) == PROXY


@pytest.mark.parametrize(("peer", "secure"), [(PROXY, True), ("198.51.100.7", False)])
def test_only_a_trusted_proxy_says_that_a_request_came_by_https(settings: Any, peer: str, secure: bool) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    request = asked(peer, X_Forwarded_Proto="https", X_Forwarded_For=CLIENT)
    ClientAddressMiddleware(lambda _: HttpResponse())(request)
    assert request.is_secure() is secure
    assert client_address(request) == request.META["REMOTE_ADDR"] == (CLIENT if secure else peer)
    assert "X-Forwarded-For" not in request.headers


def test_throttles_count_by_the_client_and_strangers_cannot_change_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AnonRateThrottle, "rate", "3/min", raising=False)
    client = Client()

    def statuses(peer: str, told: list[str]) -> list[int]:
        return [
            client.post(
                "/api/v1/echo/", {}, "application/json", REMOTE_ADDR=peer, headers={"X-Forwarded-For": address}
            ).status_code
            for address in told
        ]

    assert statuses("198.51.100.7", [f"192.0.2.{number}" for number in range(4)]) == [200, 200, 200, 429]
    assert statuses(PROXY, [*[CLIENT] * 4, "203.0.113.10"]) == [200, 200, 200, 429, 200]


def test_an_allowed_address_that_is_none_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1, proxy")
    with pytest.raises(env.ConfigurationError, match="'proxy', which is no IP address"):
        env.networks("FORWARDED_ALLOW_IPS")
