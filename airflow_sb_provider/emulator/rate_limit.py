"""The rate limit of each token."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.emulator.errors import ApiError

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.platform import Platform


@dataclass
class Window:
    """How much of its rate limit a token has used; the window ends at `reset` (whole epoch seconds)."""

    reset: int
    used: int = 0


class RateLimit:
    """Counts the requests of each token."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._knobs = platform.knobs
        self._windows: dict[str, Window] = {}

    def spend(self, token: str, body: Any) -> None:
        """Count a request with its JSON body, or reject it (1000)."""
        window = self.window(token)
        cost = _items(body) if self._knobs.bulk_cost == "items" else 1
        if window.used + cost > self._knobs.rate_limit:
            raise ApiError(1000)
        window.used += cost

    def window(self, token: str) -> Window:
        """Return the token's current window."""
        moment = time.time()
        window = self._windows.get(token)
        if window is None or moment >= window.reset:
            window = Window(math.ceil(moment + self._knobs.rate_window))
            if token in self._platform.users:
                self._windows[token] = window
        return window

    def remaining(self, window: Window) -> int:
        """Return how many requests are left in a window."""
        return max(0, self._knobs.rate_limit - window.used)


def _items(body: Any) -> int:
    """Return the number of items of a bulk call, and 1 for any other call."""
    lists = (
        [body.get(name) for name in ("items", "export_ids", "file_ids", "task_ids")] if isinstance(body, dict) else []
    )
    return next((len(items) for items in lists if isinstance(items, list)), 1)
