"""Who may use the local Platform: programs on this machine, but no web page, and under /_local no other user.

A link of a web page may open one of the pages under /_local/pages, which that other page cannot read.
"""

from __future__ import annotations

import ipaddress
import os
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LOCAL = "/_local"
"""The path below which no token is needed."""
PAGES = f"{LOCAL}/pages"
"""The path below which are pages for a browser, which a link in another page may open."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of every response; they keep browsers from running, sniffing or embedding stored bytes and names."""
_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9.-]+))(?::[0-9]{0,5})?", re.IGNORECASE)
_HOST_REJECTED = "Host must be a loopback name or address, such as 127.0.0.1 or localhost"
_OWN_SITES = {"none", "same-origin"}


def is_loopback(host: str) -> bool:
    """Whether a bare name or address always means this machine, whatever a DNS server answers."""
    host = host.lower().removesuffix(".")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@web.middleware
async def guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Reject (403) a request that does not come from a program that may use the local Platform."""
    if reason := _rejection(request):
        return web.json_response({"error": reason}, status=403)
    return await handler(request)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add `HEADERS` to a response that is about to be sent."""
    response.headers.update(HEADERS)


def _rejection(request: web.Request) -> str | None:
    hosts = request.headers.getall("Host", [])
    parts = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if not parts or not is_loopback(parts["v6"] or parts["name"]):
        return _HOST_REJECTED
    # A request target that is a complete URL takes precedence over the header.
    if request.host != hosts[0] and not is_loopback(request.host or ""):
        return _HOST_REJECTED
    origins, sites = request.headers.getall("Origin", []), request.headers.getall("Sec-Fetch-Site", [])
    if any(origin != f"http://{hosts[0]}" for origin in origins):
        return "web pages may not use the local Platform"
    if not (_OWN_SITES.issuperset(sites) or _opens_page(request)):
        return "web pages may not use the local Platform"
    if not is_loopback(request.remote or ""):
        return "only programs on this machine may use the local Platform"
    if request.path.startswith(LOCAL) and not _is_same_user(request):
        return f"only programs of the user who runs the local Platform may use {LOCAL}"
    return None


def _opens_page(request: web.Request) -> bool:
    """Whether a browser opens a page in a tab or window of its own, where no other page can read or embed it."""
    modes, targets = (request.headers.getall(f"Sec-Fetch-{name}", []) for name in ("Mode", "Dest"))
    is_page = request.method == "GET" and request.path.startswith(f"{PAGES}/")
    return is_page and (modes, targets) == (["navigate"], ["document"])


def _is_same_user(request: web.Request) -> bool:
    """Whether this process's user owns the caller's end of the connection; true where the system does not report it."""
    if request.transport is None:
        return False
    ends = [request.transport.get_extra_info(name)[:2] for name in ("peername", "sockname")]
    endpoints = [[_proc_address(host, port) for host, port in ends]]
    if ":" not in ends[0][0]:
        # A program may reach an IPv4 address through an IPv6 socket, as Java programs do.
        endpoints.append([_proc_address(f"::ffff:{host}", port) for host, port in ends])
    try:
        # Linux only.
        rows = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()]
    except OSError:
        return True
    return any(row[1:3] in endpoints and int(row[7]) == os.geteuid() for row in rows)


def _proc_address(host: str, port: int) -> str:
    """Format an address and port as in /proc/net/tcp and tcp6: 32-bit words in the machine's byte order."""
    packed = ipaddress.ip_address(host).packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return f"{''.join(f'{word:08X}' for word in words)}:{port:04X}"
