"""The Platform's clock, which all machines of an Airflow can agree on."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# The header has whole seconds, and a reply takes a moment. So far apart, the two clocks count as one.
_AGREE = 2.0


class PlatformClock:
    """The Platform's time, from the ``Date`` header of its latest reply and this machine's clock.

    Workers and triggerers may have clocks that differ by minutes. What one process writes and another compares is in
    this time. Before the first reply, and without the header, it is this machine's time.

    ``has_heard`` tells whether there was a reply; before it, a stored time cannot be compared with `now`.
    """

    def __init__(self) -> None:
        self.has_heard = False
        self._ahead = 0.0

    def update(self, headers: Mapping[str, str]) -> None:
        """Take a reply's headers, in a mapping that ignores case."""
        self.has_heard = True
        try:
            ahead = parsedate_to_datetime(headers.get("Date", "")).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return
        if abs(ahead - self._ahead) > _AGREE:
            self._ahead = ahead if abs(ahead) > _AGREE else 0.0

    def now(self) -> float:
        """Return the time in epoch seconds."""
        return time.time() + self._ahead
