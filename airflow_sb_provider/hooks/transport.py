"""What the hook for workers needs of requests, apart from it, so that DAG files are read without."""

from __future__ import annotations

import http.client
import io
import ssl
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import requests
import requests.adapters
import requests.auth
import urllib3
import urllib3.connection
import urllib3.exceptions
from requests import RequestException
from urllib3.util.response import assert_header_parsing

from airflow_sb_provider.api.replies import Body

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.hooks.connection import ConnectionSettings

__all__ = ["RequestException", "Session", "TokenAuth", "deadline", "receive", "was_sent"]

_CHUNK = 64 * 1024
_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))

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

    Even with allow_redirects=False requests does, and stumbles over what is no address. It keeps to `deadline`.
    """

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

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


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Bound all that is read within: requests' own time-out begins anew with every byte."""
    before = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(before)


def receive(response: requests.Response, call: Call[Any]) -> bytes:
    """Return the body of an answer that was asked for with ``stream=True``.

    :raises SevenBridgesMalformedReply: if it is too large, or not packed as it says.
    :raises RequestException: if it does not come.
    """
    body = Body(call, response.status_code, response.headers)
    # Off in urllib3 before 2: a body that breaks off would pass for a whole one.
    response.raw.enforce_content_length = True
    with response:
        try:
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                body.add(chunk)
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(error) from error
    return body.whole()


class _Timed(io.RawIOBase):
    """What comes from a socket, until the deadline."""

    def __init__(self, raw: Any, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self._patience = sock.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = _deadline.get() - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        self._sock.settimeout(min(left, left if self._patience is None else self._patience))
        read: int | None = self._raw.readinto(buffer)
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock))

    def begin(self) -> None:
        super().begin()
        try:
            assert_header_parsing(self.headers)
        except urllib3.exceptions.HeaderParsingError:
            # urllib3 would write them into the log, whatever they hold, and go on without the rest.
            raise http.client.HTTPException("its headers cannot be read") from None


class _HTTPConnection(urllib3.connection.HTTPConnection):
    response_class = _Response


class _HTTPSConnection(urllib3.connection.HTTPSConnection):
    response_class = _Response


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _Adapter(requests.adapters.HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = _POOLS
        return manager


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


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
