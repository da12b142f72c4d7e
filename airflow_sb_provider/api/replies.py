"""From the bytes of an HTTP answer to a value or an error."""

from __future__ import annotations

import json
import math
import re
import zlib
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from airflow_sb_provider.api.models import RateLimit, error_from_json, is_api_error
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesGatewayError,
    SevenBridgesMalformedReply,
    SevenBridgesRateLimitError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider.api.calls import Call

T = TypeVar("T")

# A page of 100 files weighs 40 MB if each has all the metadata that it may: 1000 pairs of 400 bytes.
MAX_BODY = 64 * 2**20
# Each object or list takes many times its bytes once it is read; a page of 100 has some thousand.
MAX_CONTAINERS = 200_000
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Body:
    """The body of an answer to a call, put together as it comes; no more than `MAX_BODY` of it is ever held.

    A packed body counts by what it holds. The hooks ask for gzip alone, and it is unpacked here: how much the libraries
    unpack at once has no bound.
    """

    def __init__(self, call: Call[Any], status: int, headers: Mapping[str, str]) -> None:
        self._answer = (call, status, headers)
        self._body = bytearray()
        self._came = 0
        self._unzip: Any = None
        encoding = headers.get("Content-Encoding", "").strip().lower()
        if encoding in ("gzip", "x-gzip"):
            self._unzip = _gunzip()
        elif encoding not in ("", "identity"):
            self._refuse(f"it is packed as {readable(encoding, 50)!r}, and only gzip was asked for")

    def add(self, chunk: bytes) -> None:
        """Take the next bytes as they came.

        :raises SevenBridgesMalformedReply: if that is too much, or not what it is said to be.
        """
        # Also of a packed one, since it may unpack to nothing, without end.
        self._came += len(chunk)
        while chunk and self._unzip and max(self._came, len(self._body)) <= MAX_BODY:
            try:
                self._body += self._unzip.decompress(chunk, MAX_BODY + 1 - len(self._body))
            except zlib.error as error:
                self._refuse(f"it is no gzip ({error})")
            # What follows is the archive's next member.
            chunk = self._unzip.unused_data
            if chunk:
                self._unzip = _gunzip()
        if not self._unzip and self._came <= MAX_BODY:
            self._body += chunk
        if max(self._came, len(self._body)) > MAX_BODY:
            self._refuse(f"it is larger than {MAX_BODY >> 20} MB")

    def whole(self) -> bytes:
        """Return all of it, unpacked.

        :raises SevenBridgesMalformedReply: if its end is missing.
        """
        if self._unzip and self._came and not self._unzip.eof:
            self._refuse("its end is missing")
        return bytes(self._body)

    def _refuse(self, problem: str) -> NoReturn:
        self._body.clear()
        raise _malformed(*self._answer, problem)


def read_reply(call: Call[T], status: int, headers: Mapping[str, str], body: bytes) -> T:
    """Return what a call's answer says.

    :param status: the HTTP status.
    :param headers: the response headers, in a mapping that ignores case.
    :param body: the whole body; JSON is expected, anything else is tolerated in errors.
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
        raise _error(status, headers, body)
    try:
        return call.read(_decode(body), headers)
    except (ValueError, RecursionError) as problem:
        told = f"{readable(str(problem), 200)}; it begins {_plain(body)!r}"
        raise _malformed(call, status, headers, told) from problem


def _error(status: int, headers: Mapping[str, str], body: bytes) -> SevenBridgesApiError:
    try:
        data = _decode(body)
    except (ValueError, RecursionError):
        data = None
    known = data if isinstance(data, dict) else {}
    error = error_from_json(known, status, _request_id(headers))
    # How the API answers a wrong token is not documented; it may be without words.
    is_own = is_api_error(data, status) or status < 400 or status == 429 or (status == 401 and not body.strip())
    if not is_own:
        error = SevenBridgesGatewayError(status, message=error.message, request_id=error.request_id)
    if not error.message and not (is_own and known):
        error.message = _plain(body)
    if isinstance(error, SevenBridgesRateLimitError):
        error.reset_at = RateLimit.from_headers(headers).reset
    return error


def _malformed(call: Call[Any], status: int, headers: Mapping[str, str], problem: str) -> SevenBridgesMalformedReply:
    return SevenBridgesMalformedReply(
        status,
        message=f"The answer to {call.method} {call.path} cannot be read: {problem}.",
        request_id=_request_id(headers),
    )


def _request_id(headers: Mapping[str, str]) -> str | None:
    return readable(headers.get("X-Request-Id", ""), 100) or None


def _gunzip() -> Any:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


def _decode(body: bytes) -> Any:
    """Return what JSON says.

    :raises ValueError: if it is none; if it holds what Airflow or its database cannot (numbers beyond 64 bits, NUL,
        text that is no Unicode); if it is so many objects and lists that they would fill the memory.
    :raises RecursionError: if they are nested too deeply.
    """
    if body.count(b"{") + body.count(b"[") > MAX_CONTAINERS:
        raise ValueError("too many objects and lists")
    # Most answers have no such mark, and patterns are slow on large ones.
    has_escapes = b"\\u" in body
    if has_escapes and _NUL.search(body):
        raise ValueError("NUL in a text")
    text = body.decode("utf-8-sig")
    data: Any = json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=_no_number)
    if has_escapes and _SURROGATE.search(body):
        json.dumps(data, ensure_ascii=False).encode()
    return data


def _integer(text: str) -> int:
    number = int(text)
    return number if -(2**63) <= number < 2**63 else _no_number(text)


def _number(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:30]} is no number that can be kept")


def _plain(body: bytes) -> str:
    return readable(re.sub(r"<[^>]*>", " ", body[:2000].decode("utf-8", "replace")), 200)


def _origin_text(location: str | None) -> str:
    try:
        parts = urlsplit(location or "")
    except ValueError:
        return "another address"
    host = parts.netloc.rpartition("@")[2]
    return readable(f"{parts.scheme}://{host}", 200) if parts.scheme and host else "another address"
