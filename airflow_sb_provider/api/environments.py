"""The Platform's environments and the endpoint of a connection."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from airflow_sb_provider.exceptions import SevenBridgesInputError

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# A token that was entered as the host would be sent to a DNS server and shown in every error that names the host.
_TOKEN = re.compile(r"[a-z0-9]{24,}")
_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*\.?")


@dataclass(frozen=True)
class Environment:
    """One installation of the Platform: its name, API endpoint and web address (None if unknown)."""

    name: str
    endpoint: str
    web: str | None


ENVIRONMENTS = {
    "bdc": Environment(
        "BioData Catalyst",
        "https://api.sb.biodatacatalyst.nhlbi.nih.gov/v2",
        "https://platform.sb.biodatacatalyst.nhlbi.nih.gov",
    ),
    "cgc": Environment("Cancer Genomics Cloud", "https://cgc-api.sbgenomics.com/v2", "https://cgc.sbgenomics.com"),
    "cavatica": Environment("CAVATICA", "https://cavatica-api.sbgenomics.com/v2", "https://cavatica.sbgenomics.com"),
    "sb-us": Environment("Seven Bridges US", "https://api.sbgenomics.com/v2", "https://igor.sbgenomics.com"),
    "sb-eu": Environment("Seven Bridges EU", "https://eu-api.sbgenomics.com/v2", "https://eu.sbgenomics.com"),
    "sb-cn": Environment("Seven Bridges China", "https://api.sevenbridges.cn/v2", None),
}


def resolve_endpoint(
    host: str | None,
    *,
    port: int | None = None,
    scheme: str | None = None,
    environment: str | None = None,
    allow_http: bool = False,
) -> str:
    """Return the API's base URL without a trailing slash, such as ``https://api.sbgenomics.com/v2``.

    :param host: a bare host or a URL, with or without ``/v2``; empty if ``environment`` names it.
    :param port: used if ``host`` names none.
    :param scheme: ``https`` or ``http``, used if ``host`` names none.
    :param environment: a key of `ENVIRONMENTS`.
    :param allow_http: allows plain http to hosts other than loopback.
    :raises SevenBridgesInputError: if there is no endpoint, or if the token would be sent unencrypted. The error
        shows only host names, since a token may have been pasted into the wrong field.
    """
    known = ", ".join(ENVIRONMENTS)
    host = (host or "").strip()
    if environment and environment not in ENVIRONMENTS:
        raise SevenBridgesInputError(f"environment: its value is not known; use one of {known}.")
    if not host:
        if not environment:
            raise SevenBridgesInputError(
                "host: empty; give the API endpoint, such as api.sbgenomics.com, "
                f"or leave it empty and set the extra 'environment' to one of {known}."
            )
        return ENVIRONMENTS[environment].endpoint

    if any(mark in host for mark in "@?#"):
        raise SevenBridgesInputError(
            "host: contains a user, password, query or fragment; give only the address. The token is the password."
        )
    if scheme and "://" not in host and scheme not in ("http", "https"):
        raise SevenBridgesInputError("schema: its value is neither https nor http; leave it empty.")
    try:
        parts = urlsplit(host if "://" in host else f"{scheme or 'https'}://{_bracketed(host)}")
        port = parts.port or port
        name = _checked_name(parts.hostname or "")
    except ValueError:
        raise SevenBridgesInputError("host: its value is not an address; use one such as api.sbgenomics.com.") from None
    if parts.scheme not in ("http", "https"):
        raise SevenBridgesInputError("host: its value is not an https address; use one such as api.sbgenomics.com.")
    if parts.path.rstrip("/") not in ("", "/v2"):
        raise SevenBridgesInputError("host: its path is not the API's; leave the path out, or use /v2.")
    if parts.scheme == "http" and not (allow_http or is_loopback(name.strip("[]"))):
        raise SevenBridgesInputError(
            f"host: {name!r} would get the token over plain http; use https, "
            "or set the extra 'allow_http' to true if the network is private."
        )
    return f"{parts.scheme}://{name}{f':{port}' if port else ''}/v2"


def is_other_platform(endpoint: str, environment: str | None) -> bool:
    """Whether an endpoint is not that of an environment; false without one, and for an unknown one."""
    return environment in ENVIRONMENTS and origin(ENVIRONMENTS[environment].endpoint) != origin(endpoint)


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a URL; the token is sent only to the origin of the endpoint.

    Text that is not a URL has an origin that no endpoint has.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return "", "", None
    return parts.scheme, parts.hostname or "", port


def _bracketed(host: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(host)}]"
    except ValueError:
        return host


def _checked_name(name: str) -> str:
    if ":" in name:
        return f"[{ipaddress.IPv6Address(name)}]"
    if not _NAME.fullmatch(name) or _TOKEN.fullmatch(name):
        raise ValueError("no host name")
    return name


def is_loopback(hostname: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return hostname == "localhost"
