"""From the bytes of an HTTP answer to a value or an error."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from airflow_sb_provider.api.models import RateLimit, error_from_json
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesMalformedReply,
    SevenBridgesRateLimitError,
)

if TYPE_CHECKING:
    from airflow_sb_provider.api.calls import Call

T = TypeVar("T")


def read_reply(call: Call[T], status: int, headers: Mapping[str, str], body: bytes) -> T:
    """Return what a call's answer says.

    :param status: the HTTP status.
    :param headers: the response headers, in a mapping that ignores case.
    :param body: the whole body; JSON is expected, anything else is tolerated in errors.
    :raises SevenBridgesApiError: of the kind that the answer tells, `SevenBridgesMalformedReply` if a success
        cannot be read.
    """
    request_id = headers.get("X-Request-Id")
    if 300 <= status < 400:
        raise SevenBridgesApiError(
            status,
            message=f"The Platform redirected to {_origin_text(headers.get('Location'))}. "
            "Redirects are not followed, since the token would go along: mend the connection's host.",
            request_id=request_id,
        )
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if not 200 <= status < 300:
        known = data if isinstance(data, Mapping) else {"message": _plain(body)}
        error = error_from_json(known, status, request_id)
        if isinstance(error, SevenBridgesRateLimitError):
            error.reset_at = RateLimit.from_headers(headers).reset
        raise error
    try:
        return call.read(data, headers)
    except ValueError as problem:
        raise SevenBridgesMalformedReply(
            status,
            message=f"The answer to {call.method} {call.path} cannot be read: {problem}; it begins {_plain(body)!r}.",
            request_id=request_id,
        ) from problem


def _plain(body: bytes) -> str:
    text = re.sub(r"<[^>]*>", " ", body[:2000].decode("utf-8", "replace"))
    return " ".join(text.split())[:200]


def _origin_text(location: str | None) -> str:
    try:
        parts = urlsplit(location or "")
    except ValueError:
        return "another address"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" if parts.scheme and host else "another address"
