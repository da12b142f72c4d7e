"""What each token has used of its requests."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.emulator.errors import Refusal

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.platform import Platform


@dataclass
class Window:
    """What one token has used of its rate limit until `reset` (whole epoch seconds)."""

    reset: int
    used: int = 0


class RateLimit:
    """Counts the requests of each token."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._knobs = platform.knobs
        self._windows: dict[str, Window] = {}

    def spend(self, token: str, body: Any) -> None:
        """Count one request with its JSON body, or refuse (1000) it."""
        window = self.window(token)
        cost = _items_in(body) if self._knobs.bulk_cost == "items" else 1
        if window.used + cost > self._knobs.rate_limit:
            raise Refusal(1000)
        window.used += cost

    def window(self, token: str) -> Window:
        """The token's current window."""
        moment = time.time()
        window = self._windows.get(token)
        if window is None or moment >= window.reset:
            window = Window(math.ceil(moment + self._knobs.rate_window))
            if token in self._platform.users:
                self._windows[token] = window
        return window

    def remaining(self, window: Window) -> int:
        """How many requests are left in a window."""
        return max(0, self._knobs.rate_limit - window.used)


def _items_in(body: Any) -> int:
    """How many things a bulk call asks about; any other call asks about one."""
    lists = [body.get(name) for name in ("items", "export_ids", "file_ids")] if isinstance(body, dict) else []
    return next((len(each) for each in lists if isinstance(each, list)), 1)
