"""Convert the bytes of an HTTP response to a value or an error."""

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

# For each gzip member, the remaining bytes are copied; servers send one member.
MAX_MEMBERS = 100
# Longer numbers take too long to convert.
_LONGEST_NUMBER = 100
_NO_MASK = Mask()
_MARKS = (b",", b":", b"[", b"{")
_ESCAPED_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_ESCAPED_MISFIT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class _TooLarge(ValueError):
    """A response that exceeds its bounds."""


class Body:
    """The body of a response, assembled as it arrives; memory never holds more than its maximum size.

    A compressed body counts with its decompressed size. The hooks accept only gzip, and decompress it here, since the
    libraries do not limit how much they decompress.
    """

    def __init__(self, call: Call[Any], status: int, headers: Mapping[str, str]) -> None:
        self._response = (call, status, headers)
        self._most = call.bounds.size
        self._body = bytearray()
        self._received = 0
        self._members = 0
        self._unzip: Any = None
        encoding = headers.get("Content-Encoding", "").strip().lower()
        if encoding in ("gzip", "x-gzip"):
            self._unzip = _gunzip()
        elif encoding not in ("", "identity"):
            self._reject(f"its encoding is {readable(encoding, 50)!r}, and only gzip is accepted")

    def add(self, chunk: bytes) -> None:
        """Add the next bytes as received.

        :raises SevenBridgesMalformedReply: if the body is too large, or not encoded as its header says.
        """
        # Compressed bytes count too, since they may decompress to nothing, without end.
        self._received += len(chunk)
        while chunk and self._unzip and max(self._received, len(self._body)) <= self._most:
            try:
                self._body += self._unzip.decompress(chunk, self._most + 1 - len(self._body))
            except zlib.error as error:
                self._reject(f"it is not gzip ({error})")
            chunk = self._unzip.unused_data
            if chunk:
                self._next_member()
        if not self._unzip and self._received <= self._most:
            self._body += chunk
        if max(self._received, len(self._body)) > self._most:
            self._reject(f"it is larger than {self._most:,} bytes", SevenBridgesReplyTooLarge)

    def whole(self) -> bytes:
        """Return the decompressed body.

        :raises SevenBridgesMalformedReply: if its end is missing.
        """
        if self._unzip and self._received and not self._unzip.eof:
            self._reject("its end is missing")
        return bytes(self._body)

    def _next_member(self) -> None:
        self._members += 1
        if self._members == MAX_MEMBERS:
            self._reject(f"its archive has more than {MAX_MEMBERS} members", SevenBridgesReplyTooLarge)
        self._unzip = _gunzip()

    def _reject(
        self, problem: str, error_class: type[SevenBridgesMalformedReply] = SevenBridgesMalformedReply
    ) -> NoReturn:
        self._body.clear()
        raise _malformed(*self._response, problem, error_class)


def read_reply(call: Call[T], status: int, headers: Mapping[str, str], body: bytes, mask: Mask = _NO_MASK) -> T:
    """Return the result in a call's response.

    :param status: the HTTP status.
    :param headers: the response headers, in a mapping that ignores case.
    :param body: the whole body, JSON; in errors anything.
    :param mask: hides the token, wherever the response repeats it.
    :raises SevenBridgesApiError: of the class of the reported error, `SevenBridgesMalformedReply` if a success is not
        readable.
    """
    if 300 <= status < 400:
        raise SevenBridgesApiError(
            status,
            message=f"The Platform redirected to {_origin_text(headers.get('Location'))}. Redirects are not followed, "
            "since the other host would get the token. Correct the connection's host.",
            request_id=_request_id(headers),
        )
    if not 200 <= status < 300:
        raise _error(call, status, headers, body, mask)
    error_class = SevenBridgesMalformedReply
    try:
        # A deletion has no body.
        content = _decode(body, call, mask) if body or call.method != "DELETE" else None
        return call.read(content, headers)
    except _TooLarge as error:
        error_class, problem = SevenBridgesReplyTooLarge, str(error)
    except (ValueError, RecursionError) as error:
        problem = f"{readable(str(error), 200)}; it begins {_plain(body, mask)!r}"
    # Not chained, since a decoder's error contains its input.
    raise _malformed(call, status, headers, problem, error_class)


def _error(call: Call[Any], status: int, headers: Mapping[str, str], body: bytes, mask: Mask) -> SevenBridgesApiError:
    try:
        data = _decode(body, call, mask)
    except (ValueError, RecursionError):
        data = None
    known = data if isinstance(data, dict) else {}
    error = error_from_json(known, status, _request_id(headers))
    # The response to a wrong token is not documented; it may be empty.
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
    error_class: type[SevenBridgesMalformedReply],
) -> SevenBridgesMalformedReply:
    return error_class(
        status,
        message=f"The response to {call.method} {call.path} is not readable: {problem}.",
        request_id=_request_id(headers),
    )


def _request_id(headers: Mapping[str, str]) -> str | None:
    return readable(headers.get("X-Request-Id", ""), 100) or None


def _gunzip() -> Any:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


def _decode(body: bytes, call: Call[Any], mask: Mask) -> Any:
    """Return the decoded JSON, without the token. JSON that is too large is rejected before it takes memory and time.

    :raises ValueError: if it is not JSON; if Airflow or its database cannot store it (numbers beyond 64 bits, NUL,
        text that is not Unicode); if it has more values than the response to the call may have.
    :raises RecursionError: if they are nested too deeply.
    """
    # One of these characters precedes every value. Those inside texts count too, which only makes the limit stricter.
    if sum(map(body.count, _MARKS)) > call.bounds.values:
        raise _TooLarge(f"it has more than {call.bounds.values:,} values")
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
    raise ValueError(f"{text[:30]} is not a number that can be stored")


def _plain(body: bytes, mask: Mask) -> str:
    # Mask before truncating: a short part of the token would not be recognized.
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
