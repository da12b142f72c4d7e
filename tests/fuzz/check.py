"""The check of every input: it must become a value of the declared types, or an error of this package."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import types
import typing
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache

from pendulum import DateTime
from requests.structures import CaseInsensitiveDict

from airflow_sb_provider.api.models import ExportJob, Page, RateLimit
from airflow_sb_provider.api.replies import Body, read_reply
from airflow_sb_provider.api.values import MAX_NESTING
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesConnectionError,
    SevenBridgesError,
    SevenBridgesMaintenanceError,
    SevenBridgesRateLimitError,
    SevenBridgesReplyLost,
)
from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.hooks.retry import classify_failure
from airflow_sb_provider.hooks.sevenbridges import has_next
from airflow_sb_provider.jobs.rate_limiter import RateLimiter, seconds_until_allowed
from airflow_sb_provider.jobs.watch import FINAL_POLL_TIMEOUT, Over, Watch

NOW = 1_700_000_000.0


def check(given) -> str:
    """Read an input like the hooks, and return the kind of result in a word.

    :raises AssertionError: the result is not a valid value or error. Any other exception is a failure, too.
    """
    headers = CaseInsensitiveDict(given.headers)
    check_rate(RateLimit.from_headers(headers))
    try:
        body = Body(given.call, given.status, headers)
        for chunk in given.chunks:
            body.add(chunk)
        value = read_reply(given.call, given.status, headers, body.whole())
    except SevenBridgesError as error:
        check_error(given.call, classify_failure(given.call, error))
        return type(error).__name__
    check_value(value)
    return "value"


def check_error(call, error) -> None:
    """Check the error that a hook raises for a call."""
    assert isinstance(error, SevenBridgesApiError | SevenBridgesConnectionError | SevenBridgesReplyLost)
    text = str(error)
    assert text.isprintable(), ascii(text)
    assert len(text) < 5000
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), text)
    if isinstance(error, SevenBridgesApiError):
        check_value(error)
    if isinstance(error, SevenBridgesConnectionError):
        assert error.sent
    if not call.idempotent and not isinstance(error, SevenBridgesReplyLost):
        assert isinstance(error, SevenBridgesApiError)
        ends_by_itself = isinstance(error, SevenBridgesRateLimitError | SevenBridgesMaintenanceError)
        assert ends_by_itself or error.permanent, f"an export might be submitted again after {error!r}"


def check_value(value) -> None:
    """Check the types of a value that a call returned, and that Airflow can store it."""
    if isinstance(value, list):
        for each in value:
            check_value(each)
        jobs = [each for each in value if isinstance(each, ExportJob | SevenBridgesApiError)]
        ids = [f"id{number}" for number in range(len(jobs))]
        if jobs:
            watch = Watch(EXPORT, ids, deadline=NOW)
            lines = watch.update(ids, jobs, NOW)
            assert all(isinstance(line, str) for line in lines)
            step = watch.next_step(NOW)
            _check_kept(step.event if isinstance(step, Over) else watch.event(NOW + FINAL_POLL_TIMEOUT))
    elif isinstance(value, Page):
        for each in value.items:
            check_value(each)
        assert _fits(value.total, int | None)
        assert _fits(value.next, str | None)
        try:
            assert has_next(value, "https://api.sbgenomics.com/v2") in (True, False)
        except SevenBridgesApiError as error:
            check_value(error)
    elif isinstance(value, SevenBridgesApiError):
        assert _fits(value.status, int)
        assert _fits(value.code, int | None)
        assert _fits(value.message, str)
        assert _fits(value.more_info, str | None)
        assert _fits(value.request_id, str | None)
    else:
        for name, kind in _fields(type(value)).items():
            held = getattr(value, name)
            assert _fits(held, kind), f"{type(value).__name__}.{name} is {ascii(held)[:200]}"
            _check_kept(held)
        if isinstance(value, ExportJob):
            _check_kept(value.to_json())
        if isinstance(value, RateLimit):
            check_rate(value)


def check_rate(rate: RateLimit) -> None:
    """Check that no rate limit causes an endless pause."""
    assert all(_fits(number, int | None) for number in (rate.limit, rate.remaining, rate.reset))
    limiter = RateLimiter()
    limiter.observe(rate, 100, NOW)
    limiter.observe(rate, 100, NOW + 1)
    for pause in (seconds_until_allowed(rate, NOW), limiter.pause(50.0, NOW + 1)):
        assert math.isfinite(pause)
        assert pause >= 0


@cache
def _fields(kind) -> dict[str, object]:
    hints = typing.get_type_hints(kind, localns={"DateTime": DateTime})
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _fits(value, kind) -> bool:
    if isinstance(kind, types.UnionType):
        return any(_fits(value, each) for each in typing.get_args(kind))
    origin = typing.get_origin(kind)
    if origin is tuple:
        return isinstance(value, tuple) and all(isinstance(each, str) for each in value)
    if origin is not None:
        return isinstance(value, origin)
    if kind is int:
        return type(value) is int and -(2**63) <= value < 2**63
    return isinstance(value, kind)


def _check_kept(value, levels: int = MAX_NESTING + 10) -> None:
    """Check that logs, Airflow's messages and its database can store a value."""
    assert levels > 0, "nested too deeply"
    if isinstance(value, Mapping):
        for key, each in value.items():
            _check_kept(key, levels - 1)
            _check_kept(each, levels - 1)
    elif isinstance(value, list | tuple):
        for each in value:
            _check_kept(each, levels - 1)
    elif isinstance(value, str):
        value.encode()
        assert "\x00" not in value
    elif isinstance(value, datetime):
        value.astimezone(UTC).timestamp()
    elif isinstance(value, int):
        assert _fits(int(value), int)
    elif isinstance(value, float):
        json.dumps(value, allow_nan=False)


def check_many(seeds, make, check=check, report=lambda done: None) -> Counter[str]:
    """Check the inputs of seeds, and count the kinds of results.

    :raises AssertionError: an input failed; the message has its seed and the input.
    """
    seen: Counter[str] = Counter()
    for done, seed in enumerate(seeds, 1):
        given = make(seed)
        try:
            seen[check(given)] += 1
        except Exception as problem:
            raise AssertionError(
                f"seed {seed}: {problem!r}\n{given.call.method} {given.call.path}\n{given!r}"
            ) from problem
        report(done)
    return seen
