"""How fast to ask, from what the Platform tells of its rate limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_sb_provider.api.models import RateLimit

RESERVE = 0.1


def seconds_before_next(rate: RateLimit | None, now: float, wanted: float) -> float:
    """Return how long to wait before the next poll.

    A tenth of the limit is left for submissions. As long as what is wanted fits into what is left of the window,
    nothing waits; else polls are spread over the rest of it. Others may spend the same limit: what they leave is seen
    at the next answer.

    :param rate: the latest ``X-RateLimit-*`` headers.
    :param now: epoch seconds.
    :param wanted: polls a second.
    """
    if rate is None or rate.remaining is None or rate.reset is None:
        return 0.0
    left = rate.reset - now
    if left <= 0:
        return 0.0
    spendable = rate.remaining - RESERVE * (rate.limit or rate.remaining)
    if spendable < 1:
        return left
    return left / spendable if wanted * left > spendable else 0.0
