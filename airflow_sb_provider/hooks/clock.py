"""The Platform's clock, which all machines of an Airflow deployment share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_sb_provider.api.times import parse_http_date

if TYPE_CHECKING:
    from collections.abc import Mapping

# The header has whole seconds, and a response takes time: clocks that differ by less than this count as equal.
_AGREE = 2.0


class PlatformClock:
    """The Platform's time, from the ``Date`` header of its latest response and this machine's clock.

    Clocks of workers and triggerers may differ by minutes, so times that one process writes and another compares are
    in the Platform's time. Before the first response, and without the header, it is this machine's time.

    ``has_heard`` is true after the first response; before it, a stored time cannot be compared with `now`.
    """

    def __init__(self) -> None:
        self.has_heard = False
        self._ahead = 0.0

    def update(self, headers: Mapping[str, str]) -> None:
        """Read the headers of a response, a mapping that ignores case."""
        self.has_heard = True
        date = parse_http_date(headers.get("Date", ""))
        if date is None:
            return
        ahead = date - time.time()
        if abs(ahead - self._ahead) > _AGREE:
            self._ahead = ahead if abs(ahead) > _AGREE else 0.0

    def now(self) -> float:
        """Return the time in epoch seconds."""
        return time.time() + self._ahead
