"""From the bytes of an HTTP answer to a value or an error."""

from __future__ import annotations

import json
import math
import re
import zlib
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from airflow_sb_provider.api.masking import Mask
from airflow_sb_provider.api.models import RateLimit, error_from_json, is_api_error
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesGatewayError,
    SevenBridgesMalformedReply,
    SevenBridgesRateLimitError,
    SevenBridgesReplyTooLarge,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider.api.calls import Call

T = TypeVar("T")

# Each member of an archive costs a copy of what follows it; a server sends one.
MAX_MEMBERS = 100
# Longer ones take the time of many.
_LONGEST_NUMBER = 100
_NO_MASK = Mask()
_MARKS = (b",", b":", b"[", b"{")
_ESCAPED_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_ESCAPED_MISFIT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class _TooLarge(ValueError):
    """An answer that exceeds its bounds."""


class Body:
    """The body of an answer to a call, put together as it comes; no more than its bound is ever held.

    A packed body counts by what it holds. The hooks accept gzip alone, and it is unpacked here: how much the libraries
    unpack at once has no bound.
    """

    def __init__(self, call: Call[Any], status: int, headers: Mapping[str, str]) -> None:
        self._answer = (call, status, headers)
        self._most = call.bounds.size
        self._body = bytearray()
        self._came = 0
        self._members = 0
        self._unzip: Any = None
        encoding = headers.get("Content-Encoding", "").strip().lower()
        if encoding in ("gzip", "x-gzip"):
            self._unzip = _gunzip()
        elif encoding not in ("", "identity"):
            self._refuse(f"it is packed as {readable(encoding, 50)!r}, and only gzip is accepted")

    def add(self, chunk: bytes) -> None:
        """Take the next bytes as they came.

        :raises SevenBridgesMalformedReply: if that is too much, or not what it is said to be.
        """
        # Also of a packed one, since it may unpack to nothing, without end.
        self._came += len(chunk)
        while chunk and self._unzip and max(self._came, len(self._body)) <= self._most:
            try:
                self._body += self._unzip.decompress(chunk, self._most + 1 - len(self._body))
            except zlib.error as error:
                self._refuse(f"it is no gzip ({error})")
            chunk = self._unzip.unused_data
            if chunk:
                self._next_member()
        if not self._unzip and self._came <= self._most:
            self._body += chunk
        if max(self._came, len(self._body)) > self._most:
            self._refuse(f"it is larger than {self._most:,} bytes", SevenBridgesReplyTooLarge)

    def whole(self) -> bytes:
        """Return all of it, unpacked.

        :raises SevenBridgesMalformedReply: if its end is missing.
        """
        if self._unzip and self._came and not self._unzip.eof:
            self._refuse("its end is missing")
        return bytes(self._body)

    def _next_member(self) -> None:
        self._members += 1
        if self._members == MAX_MEMBERS:
            self._refuse(f"its archive has more than {MAX_MEMBERS} members", SevenBridgesReplyTooLarge)
        self._unzip = _gunzip()

    def _refuse(self, problem: str, kind: type[SevenBridgesMalformedReply] = SevenBridgesMalformedReply) -> NoReturn:
        self._body.clear()
        raise _malformed(*self._answer, problem, kind)


def read_reply(call: Call[T], status: int, headers: Mapping[str, str], body: bytes, mask: Mask = _NO_MASK) -> T:
    """Return what a call's answer says.

    :param status: the HTTP status.
    :param headers: the response headers, in a mapping that ignores case.
    :param body: the whole body; JSON is expected, anything else is tolerated in errors.
    :param mask: hides the token, wherever the answer repeats it.
    :raises SevenBridgesApiError: of the kind that the answer tells, `SevenBridgesMalformedReply` if a success
        cannot be read.
    """
    if 300 <= status < 400:
        raise SevenBridgesApiError(
            status,
            message=f"The Platform redirected to {_origin_text(headers.get('Location'))}. "
            "Redirects are not followed, since the token would go along: mend the connection's host.",
            request_id=_request_id(headers),
        )
    if not 200 <= status < 300:
        raise _error(call, status, headers, body, mask)
    kind = SevenBridgesMalformedReply
    try:
        return call.read(_decode(body, call, mask), headers)
    except _TooLarge as error:
        kind, problem = SevenBridgesReplyTooLarge, str(error)
    except (ValueError, RecursionError) as error:
        problem = f"{readable(str(error), 200)}; it begins {_plain(body, mask)!r}"
    # Not chained to, since an error of a decoder holds what it was to decode.
    raise _malformed(call, status, headers, problem, kind)


def _error(call: Call[Any], status: int, headers: Mapping[str, str], body: bytes, mask: Mask) -> SevenBridgesApiError:
    try:
        data = _decode(body, call, mask)
    except (ValueError, RecursionError):
        data = None
    known = data if isinstance(data, dict) else {}
    error = error_from_json(known, status, _request_id(headers))
    # How the API answers a wrong token is not documented; it may be without words.
    is_own = is_api_error(data, status) or status < 400 or status == 429 or (status == 401 and not body.strip())
    if not is_own:
        error = SevenBridgesGatewayError(status, message=error.message, request_id=error.request_id)
    if not error.message and not (is_own and known):
        error.message = _plain(body, mask)
    if isinstance(error, SevenBridgesRateLimitError):
        error.reset_at = RateLimit.from_headers(headers).reset
    return error


def _malformed(
    call: Call[Any],
    status: int,
    headers: Mapping[str, str],
    problem: str,
    kind: type[SevenBridgesMalformedReply],
) -> SevenBridgesMalformedReply:
    return kind(
        status,
        message=f"The answer to {call.method} {call.path} cannot be read: {problem}.",
        request_id=_request_id(headers),
    )


def _request_id(headers: Mapping[str, str]) -> str | None:
    return readable(headers.get("X-Request-Id", ""), 100) or None


def _gunzip() -> Any:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


def _decode(body: bytes, call: Call[Any], mask: Mask) -> Any:
    """Return what JSON says, without the token. What is too much is refused before it takes memory and time.

    :raises ValueError: if it is none; if it holds what Airflow or its database cannot (numbers beyond 64 bits, NUL,
        text that is no Unicode); if it holds more values than the call's answer may.
    :raises RecursionError: if they are nested too deeply.
    """
    # One of these marks is before every value; those within texts count too, which only makes the bound lower.
    if sum(map(body.count, _MARKS)) > call.bounds.values:
        raise _TooLarge(f"it holds more than {call.bounds.values:,} values")
    text = mask.whole(body.decode("utf-8-sig"))
    if "\\u" in text:
        escapes = _ESCAPED_PAIR.sub(" ", text.replace("\\\\", " "))
        if _ESCAPED_MISFIT.search(escapes):
            raise ValueError("NUL or half a character in a text")
    return json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=_no_number)


def _integer(text: str) -> int:
    number = int(text) if len(text) <= _LONGEST_NUMBER else 2**63
    return number if -(2**63) <= number < 2**63 else _no_number(text)


def _number(text: str) -> float:
    number = float(text) if len(text) <= _LONGEST_NUMBER else math.inf
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:30]} is no number that can be kept")


def _plain(body: bytes, mask: Mask) -> str:
    # Before the text is cut: a part of the token would not be recognized if it is short.
    text = mask.whole(body.decode("utf-8", "replace"))[:2000]
    text = re.sub(r"<[^<>]*>", " ", text)
    return mask.parts(readable(text, len(text)))[:200]


def _origin_text(location: str | None) -> str:
    try:
        parts = urlsplit(location or "")
    except ValueError:
        return "another address"
    host = parts.netloc.rpartition("@")[2]
    return readable(f"{parts.scheme}://{host}", 200) if parts.scheme and host else "another address"
