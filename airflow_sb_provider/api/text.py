"""Make text of the Platform safe to show: names, locations, states and messages are written by other people."""

from __future__ import annotations

SHOWN = 300
# The maximum length of one text in a task's tab.
LONGEST = 2000


def readable(text: str, limit: int = SHOWN) -> str:
    """Return text on one line, of limited length, that cannot forge a log or a page.

    Characters that are not printable become spaces: line breaks and other separators, control characters, and marks
    that change the direction of writing.
    """
    start = text[: 4 * limit]
    if not start.isprintable():
        start = "".join(mark if mark.isprintable() else " " for mark in start)
    return " ".join(start.split())[:limit]


def cut(text: str | None) -> str | None:
    """Truncate text that other people wrote, so that a row stays small."""
    return text if text is None or len(text) <= LONGEST else text[: LONGEST - 1] + "…"
