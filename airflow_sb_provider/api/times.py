"""Times and durations: the one place where they are parsed and formatted. A time is a pendulum `DateTime`."""

from __future__ import annotations

from datetime import MAXYEAR, MINYEAR, datetime
from email.utils import parsedate_to_datetime

import pendulum


def parse_time(value: object) -> pendulum.DateTime | None:
    """Return the time of an ISO 8601 text with ``Z``, an offset or neither (then UTC); None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        # Not by pendulum's parser, which also accepts dates, intervals and the word "now".
        time = pendulum.instance(datetime.fromisoformat(value.strip()))
    except (ValueError, OverflowError):
        return None
    # In the first and last year, an offset, a rounding or an added duration could lead out of the calendar.
    return time if MINYEAR < time.year < MAXYEAR else None


def parse_http_date(text: str) -> float | None:
    """Return the epoch seconds of a ``Date`` header; None if it is missing or invalid."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def isoformat_utc(seconds: float) -> str:
    """Return epoch seconds as ISO 8601 text in UTC."""
    return pendulum.from_timestamp(seconds).isoformat(timespec="seconds")


def in_words(seconds: float) -> str:
    """Return a duration as people say it, such as ``2 minutes``; from one second on, in whole seconds."""
    if seconds < 1:
        return f"{seconds:.1g} seconds"
    return pendulum.duration(seconds=round(seconds)).in_words(locale="en")
