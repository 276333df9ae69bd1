"""The client's address. Only configured proxies are trusted."""

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from django.conf import settings

#: Headers in which a proxy describes the request that it passes on.
FORWARDING_HEADERS = (
    *("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT"),
    *("HTTP_X_FORWARDED_PREFIX", "HTTP_X_FORWARDED_PROTO", "HTTP_X_REAL_IP"),
)


def client_address(request: Any) -> str:
    """IPv4 or IPv6 without a port; empty for a Unix socket.

    With BEHIND_PROXY and a trusted peer, the last address of X-Forwarded-For outside FORWARDED_ALLOW_IPS; otherwise the
    peer's.
    """
    return sender_address(request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", ""))


def sender_address(peer: str, forwarded_for: str) -> str:
    address = peer = normal_address(peer)
    if not is_trusted_proxy(peer):
        return peer
    for part in reversed(forwarded_for.split(",")):
        if not (forwarded := normal_address(part)):
            break
        address = forwarded
        if not is_named(address):
            break
    return address


def is_trusted_proxy(peer: str) -> bool:
    """A Unix socket (no address) is this machine."""
    return settings.BEHIND_PROXY and (not peer or "*" in settings.FORWARDED_ALLOW_IPS or is_named(peer))


def is_named(address: str) -> bool:
    """Whether FORWARDED_ALLOW_IPS lists the address or its network; ``*`` does not count."""
    return any(ip_address(address) in network for network in networks(tuple(settings.FORWARDED_ALLOW_IPS)))


@lru_cache(maxsize=4)
def networks(names: tuple[str, ...]) -> list[IPv4Network | IPv6Network]:
    return [ip_network(name) for name in names if name != "*"]


def normal_address(text: str) -> str:
    """Canonical, with mapped IPv4 unmapped; empty for text that is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def address_block(address: str) -> str:
    """An IPv4 address, or the /64 network of an IPv6 address."""
    found = normal_address(address)
    if ":" not in found:
        return found
    return str(ip_network(f"{found}/64", strict=False))
