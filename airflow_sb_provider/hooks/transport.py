"""How the hook for workers uses requests. A separate module, so that parsing a DAG file does not import requests."""

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
from airflow_sb_provider.api.times import in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.hooks.connection import ConnectionSettings

__all__ = [
    "RequestBody",
    "RequestException",
    "Session",
    "TokenAuth",
    "innermost_text",
    "receive",
    "was_sent",
    "within",
]

T = TypeVar("T")

_CHUNK = 64 * 1024

# The errors that requests raises before any part of a request is sent.
_UNSENT = (
    requests.exceptions.ConnectTimeout,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    ssl.SSLCertVerificationError,
)


def _is_fit_for_the_log(record: logging.LogRecord) -> bool:
    # urllib3 logs headers that it cannot parse; they contain the token if a gateway repeats the request's headers.
    return not str(record.msg).startswith("Failed to parse headers")


# The loggers of urllib3 2 and of urllib3 1.
for _name in ("urllib3.connection", "urllib3.connectionpool"):
    logging.getLogger(_name).addFilter(_is_fit_for_the_log)


class Session(requests.Session):
    """A session that keeps no cookies and never parses the target of a redirect.

    Even with allow_redirects=False requests parses it, and fails for an invalid address.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None, so that no redirect is parsed."""
        return None


class TokenAuth(requests.auth.AuthBase):
    """The token's header; an auth object keeps requests from reading other credentials from netrc."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header to a request."""
        request.headers.update([self._settings.auth_header])
        return request


class RequestBody(bytearray):
    """The body of a request as JSON, which is not sent after a certain time.

    requests calls ``read`` when the connection is open. By then, more time than any time-out may have passed, such as
    for a DNS lookup or while the process was suspended, and another try may have submitted the same job.

    :param value: what to send.
    :param send_by: the latest time to send it (`time.monotonic`).
    """

    def __init__(self, value: object, send_by: float) -> None:
        super().__init__(json.dumps(value, allow_nan=False).encode())
        self._unread = io.BytesIO(self)
        self._end = send_by

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes.

        :raises RequestException: if it is too late; the Platform does not accept a request without its whole body.
        """
        if time.monotonic() > self._end:
            raise requests.Timeout("the request could not be sent in time and was aborted")
        return self._unread.read(size)


def within(seconds: float, work: Callable[[], T]) -> T:
    """Return what work returns or raise what it raises, within a total time.

    The time-out of requests restarts with every byte, also of the headers. So the work has its own thread, which is
    abandoned after that time: it ends with the response or with the process.

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
        raise requests.Timeout(f"the response took longer than {in_words(seconds)}") from None
    if error:
        raise error
    return value  # type: ignore[return-value]


def receive(response: requests.Response, call: Call[Any]) -> bytes:
    """Return the body of a response to a request with ``stream=True``.

    :raises SevenBridgesMalformedReply: if it is too large, or not encoded as its header says.
    :raises RequestException: if it does not arrive.
    """
    body = Body(call, response.status_code, response.headers)
    # Off by default in urllib3 1: a truncated body would be treated as complete.
    response.raw.enforce_content_length = True
    with response:
        try:
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                body.add(chunk)
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(error) from error
    return body.whole()


def was_sent(error: requests.RequestException) -> bool:
    """Whether any part of a request without a response may have reached the Platform."""
    return not any(
        isinstance(cause, _UNSENT) or str(cause).startswith("Tunnel connection failed") for cause in _causes(error)
    )


def innermost_text(error: requests.RequestException) -> str:
    """Return the text of the innermost cause of an error, without the texts of the errors that wrap it."""
    texts = [text for cause in _causes(error) if (text := str(cause))]
    return texts[-1] if texts else type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    pending: list[Any] = [error]
    while pending:
        cause = pending.pop()
        if not isinstance(cause, BaseException) or cause in seen:
            continue
        seen.append(cause)
        yield cause
        pending += [*cause.args, getattr(cause, "reason", None), getattr(cause, "original_error", None)]
