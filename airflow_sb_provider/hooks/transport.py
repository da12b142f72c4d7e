"""What the hook for workers needs of requests, apart from it, so that DAG files are read without."""

from __future__ import annotations

import io
import json
import logging
import queue
import ssl
import threading
import time
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, TypeVar

import requests
import requests.auth
import urllib3.exceptions
from requests import RequestException

from airflow_sb_provider.api.replies import Body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.hooks.connection import ConnectionSettings

__all__ = ["RequestBody", "RequestException", "Session", "TokenAuth", "receive", "was_sent", "within"]

T = TypeVar("T")

_CHUNK = 64 * 1024

# What requests raises before anything of a request has left.
_UNSENT = (
    requests.exceptions.ConnectTimeout,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    ssl.SSLCertVerificationError,
)


def _is_fit_for_the_log(record: logging.LogRecord) -> bool:
    # It shows headers that it cannot read, and with them a token that a gateway repeats.
    return not str(record.msg).startswith("Failed to parse headers")


# Of urllib3 2 and of urllib3 1.
for _name in ("urllib3.connection", "urllib3.connectionpool"):
    logging.getLogger(_name).addFilter(_is_fit_for_the_log)


class Session(requests.Session):
    """A session that keeps no cookies and never looks where a redirect goes.

    Even with allow_redirects=False requests does, and stumbles over what is no address.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return nothing."""
        return None


class TokenAuth(requests.auth.AuthBase):
    """The token's header; an auth object keeps requests from looking for other credentials in netrc."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add it to a request."""
        request.headers.update([self._settings.auth_header])
        return request


class RequestBody(bytearray):
    """The body of a request as JSON, which is not sent after a certain time.

    What has ``read`` is read when the connection is there. What comes before may take longer than any time-out, such as
    the look-up of a name, or a process that stands still; meanwhile others may have submitted the same job.

    :param value: what to send.
    :param send_by: until when it may be sent (`time.monotonic`).
    """

    def __init__(self, value: object, send_by: float) -> None:
        super().__init__(json.dumps(value, allow_nan=False).encode())
        self._unread = io.BytesIO(self)
        self._end = send_by

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes.

        :raises RequestException: if the time is over; a request without its whole body is not accepted.
        """
        if time.monotonic() > self._end:
            raise requests.Timeout("the request came to be sent too late, so it was broken off")
        return self._unread.read(size)


def within(seconds: float, work: Callable[[], T]) -> T:
    """Return what work returns or raise what it raises, within a time in all.

    The time-out of requests begins anew with every byte, also of the headers. So the work has a thread of its own, and
    after the time nobody waits for it any more: the thread ends with the answer or with the process.

    :raises RequestException: if the time is over.
    """
    outcome: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((work(), None))
        except BaseException as error:
            outcome.put((None, error))

    threading.Thread(target=run, name="sevenbridges request", daemon=True).start()
    try:
        value, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise requests.Timeout(f"the answer took longer than {seconds:g} s") from None
    if error:
        raise error
    return value  # type: ignore[return-value]


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
