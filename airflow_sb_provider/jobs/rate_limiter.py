"""How fast to ask, from what the Platform tells of its rate limit: 1000 requests in 5 minutes, told in headers.

Times are in seconds; which clock they are of does not matter, except that ``reset`` is in epoch seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_sb_provider.api.calls import BULK_LIMIT

if TYPE_CHECKING:
    from airflow_sb_provider.api.models import RateLimit

WINDOW = 300.0
RESERVE = 0.1
FLOOR = 0.01
# What is left at a window's end is lost, and waits mostly become fewer, so that its first half spends more. Much more
# would make the last polls of a window late where waits do not become fewer.
EARLY = 1.4
BLIND_PAUSE = 5.0
_SAMPLE = 10.0
# So many lead beyond the window; without a bound the power would exceed what a number can be.
_MOST_DOUBLINGS = 10


def seconds_until_allowed(rate: RateLimit | None, now: float) -> float:
    """Return how long a worker should wait before its next request, so that it is not refused: until the window's end.

    :param rate: what the last answer told.
    :param now: epoch seconds.
    """
    if rate is None or rate.remaining is None or rate.reset is None:
        return 0.0
    if rate.remaining > FLOOR * (rate.limit or 0):
        return 0.0
    return min(max(rate.reset - now, 0.0), WINDOW)


class RateLimiter:
    """What one asker may spend of a token's rate limit.

    All that is known comes with the answers. Others may spend the same limit: what is gone beyond one's own requests is
    theirs, and each takes what they leave, but at least half, so that two share it evenly. A tenth of the limit, for as
    much of the window as is left, is kept for submissions. Whether a bulk call costs one request or one for each of its
    items is learnt from the first answers.
    """

    def __init__(self) -> None:
        self._rate: RateLimit | None = None
        self._not_before = 0.0
        self._refusals = 0
        self._own = 0.0
        self._sample: tuple[float, int, float] | None = None
        self._foreign = 0.0
        self._by_items: bool | None = None

    @property
    def one_at_a_time(self) -> bool:
        """Whether the next request should be sent only after the answer to the last, since its cost is not known."""
        return self._by_items is not False

    def told(self, rate: RateLimit | None, items: int, now: float, *, refused: bool = False) -> None:
        """Take what an answer tells.

        :param rate: its ``X-RateLimit-*`` headers.
        :param items: how many ids were asked for.
        :param now: epoch seconds.
        :param refused: whether it was a 429.
        """
        before, self._rate = self._rate, rate
        self._refusals = self._refusals + 1 if refused else 0
        if refused:
            # Also where the headers tell nothing, or the clocks differ so that the window seems to be over.
            self._not_before = now + min(BLIND_PAUSE * 2 ** min(self._refusals - 1, _MOST_DOUBLINGS), WINDOW)
        if rate is None or rate.remaining is None or rate.reset is None:
            self._by_items = False
            return
        same_window = before is not None and before.reset == rate.reset
        undecided = self._by_items is not False and items > 1 and not refused
        if undecided and before and before.remaining is not None and same_window:
            self._by_items = before.remaining - rate.remaining >= items
        self._own += self._cost(items)
        if self._sample is None or not same_window:
            self._sample = (now, rate.remaining, self._own)
        elif now - self._sample[0] >= _SAMPLE:
            since, remaining, own = self._sample
            self._foreign = max(0.0, remaining - rate.remaining - (self._own - own)) / (now - since)
            self._sample = (now, rate.remaining, self._own)

    def pause(self, wanted: float, now: float, items: float = BULK_LIMIT) -> float:
        """Return how long to wait before the next request.

        Nothing waits as long as what will be wanted fits into one's own part of what is left of the window.

        :param wanted: how many ids are to be asked for in a second.
        :param now: epoch seconds.
        :param items: how many of them a request takes, on average.
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
        own = max(spendable - self._foreign * left, spendable / 2)
        if wanted * left / items * cost <= own:
            return blocked
        return max(blocked, cost * left / (EARLY * own))

    def _cost(self, items: float) -> float:
        return items if self._by_items else 1
