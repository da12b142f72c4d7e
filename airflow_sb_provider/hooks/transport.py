"""What the hook for workers needs of requests, apart from it, so that DAG files are read without."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import requests
import requests.auth
import urllib3.exceptions
from requests import RequestException

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_sb_provider.hooks.connection import ConnectionSettings

__all__ = ["RequestException", "Session", "TokenAuth", "was_sent"]

# What requests raises before anything of a request has left.
_UNSENT = (
    requests.exceptions.ConnectTimeout,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    ssl.SSLCertVerificationError,
)


class Session(requests.Session):
    """A session that never looks where a redirect goes.

    Even with allow_redirects=False requests does, and stumbles over what is no address.
    """

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return nothing."""
        return None


class TokenAuth(requests.auth.AuthBase):
    """The token's header; an auth object keeps requests from looking for other credentials in netrc."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add it to a request."""
        name, value = self._settings.auth_header
        request.headers[name] = value
        return request


def was_sent(error: requests.RequestException) -> bool:
    """Whether something of a request that got no answer may have reached the Platform."""
    return not any(
        isinstance(cause, _UNSENT) or str(cause).startswith("Tunnel connection failed") for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    queue: list[Any] = [error]
    while queue:
        cause = queue.pop()
        if not isinstance(cause, BaseException) or cause in seen:
            continue
        seen.append(cause)
        yield cause
        queue += [*cause.args, getattr(cause, "reason", None), getattr(cause, "original_error", None)]
