"""How fast to send requests, from the ``X-RateLimit-*`` headers: the Platform allows 1000 requests in 5 minutes.

Times are in epoch seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_sb_provider.api.calls import BULK_LIMIT

if TYPE_CHECKING:
    from airflow_sb_provider.api.models import RateLimit

WINDOW = 300.0
RESERVE = 0.1
FLOOR = 0.01
# Requests left at the end of a window are lost, and the number of waiting jobs mostly shrinks, so the start of a window
# spends more. A larger factor would delay the last polls of a window if the number does not shrink.
EARLY = 1.4
BLIND_PAUSE = 5.0
_SAMPLE = 10.0
# More doublings exceed the window anyway; without a bound the power would overflow.
_MAX_DOUBLINGS = 10


def seconds_until_allowed(rate: RateLimit | None, now: float) -> float:
    """Return how long a worker should wait before its next request: until the window's end if no request is left.

    :param rate: the last response's headers.
    :param now: epoch seconds.
    """
    if rate is None or rate.remaining is None or rate.reset is None:
        return 0.0
    if rate.remaining > FLOOR * (rate.limit or 0):
        return 0.0
    return min(max(rate.reset - now, 0.0), WINDOW)


class RateLimiter:
    """One client's share of a token's rate limit.

    It learns from response headers only. Where the limit shrinks by more than its own requests, it attributes the rest
    to other clients of the token; it uses what they leave, but at least half, so two clients converge to an even split.
    It reserves a tenth of the limit for submissions, in proportion to the rest of the window. Whether a bulk call costs
    one request or one per item is learned from the first responses.
    """

    def __init__(self) -> None:
        self._rate: RateLimit | None = None
        self._not_before = 0.0
        self._throttled_count = 0
        self._own = 0.0
        self._sample: tuple[float, int, float] | None = None
        self._foreign_rate = 0.0
        self._by_items: bool | None = None

    @property
    def one_at_a_time(self) -> bool:
        """Whether to wait for each response before the next request, because the cost of a bulk call is not known."""
        return self._by_items is not False

    def observe(self, rate: RateLimit | None, items: int, now: float, *, throttled: bool = False) -> None:
        """Learn from a response.

        :param rate: its ``X-RateLimit-*`` headers.
        :param items: how many ids the request had.
        :param now: epoch seconds.
        :param throttled: whether it was a 429.
        """
        before, self._rate = self._rate, rate
        self._throttled_count = self._throttled_count + 1 if throttled else 0
        if throttled:
            # Also without headers, or if the clocks differ so that the window seems to be over.
            self._not_before = now + min(BLIND_PAUSE * 2 ** min(self._throttled_count - 1, _MAX_DOUBLINGS), WINDOW)
        if rate is None or rate.remaining is None or rate.reset is None:
            self._by_items = False
            return
        same_window = before is not None and before.reset == rate.reset
        undecided = self._by_items is not False and items > 1 and not throttled
        if undecided and before and before.remaining is not None and same_window:
            self._by_items = before.remaining - rate.remaining >= items
        self._own += self._cost(items)
        if self._sample is None or not same_window:
            self._sample = (now, rate.remaining, self._own)
        elif now - self._sample[0] >= _SAMPLE:
            since, remaining, own = self._sample
            self._foreign_rate = max(0.0, remaining - rate.remaining - (self._own - own)) / (now - since)
            self._sample = (now, rate.remaining, self._own)

    def pause(self, ids_per_second: float, now: float, items: float = BULK_LIMIT) -> float:
        """Return how long to wait before the next request.

        It is 0 as long as the polls for the rest of the window fit into this client's share.

        :param ids_per_second: how many ids need a poll per second.
        :param now: epoch seconds.
        :param items: how many ids a request has, on average.
        """
        blocked = max(0.0, self._not_before - now)
        rate = self._rate
        if rate is None or rate.remaining is None or rate.reset is None:
            return blocked
        left = min(rate.reset - now, WINDOW)
        if left <= 0:
            return blocked
        spendable = rate.remaining - (rate.limit or rate.remaining) * max(RESERVE * left / WINDOW, FLOOR)
        cost = self._cost(items)
        if spendable < cost:
            return max(blocked, left)
        own = max(spendable - self._foreign_rate * left, spendable / 2)
        if ids_per_second * left / items * cost <= own:
            return blocked
        return max(blocked, cost * left / (EARLY * own))

    def _cost(self, items: float) -> float:
        return items if self._by_items else 1
