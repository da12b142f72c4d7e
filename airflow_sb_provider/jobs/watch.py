"""Waiting for exports to end: what a poll's answer means. The same for workers, triggers and sensors."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api.calls import BULK_LIMIT
from airflow_sb_provider.api.models import ExportState
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesAuthError,
    SevenBridgesError,
    SevenBridgesInputError,
    SevenBridgesUnreadableItem,
)
from airflow_sb_provider.inputs import as_list, from_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider.api.lookup import Apart
    from airflow_sb_provider.api.models import ExportJob

POLL_INTERVAL = 30.0
WEEK = 7 * 24 * 3600.0
# How long a last look at the end of the time to wait may take.
LAST_LOOK = 60.0
STRIKES = 3
# In so many polls in a row the item of one id may be unreadable while the Platform answers otherwise.
UNREADABLE_STRIKES = 10
MAX_IDS = 1000
# Of so many that wait together no single change of state is logged.
MANY = 10
_EXPORT_ID = re.compile(r"[\w-]+", re.ASCII)


@dataclass(slots=True)
class Watch:
    """The state of a wait for some exports.

    Trouble (rate limit, maintenance, no answer, unreadable answers) never ends a wait. A refusal (401, 403, 404) of
    the same thing in ``strikes`` polls in a row does, and so does ``end_time``, in epoch seconds. An id whose own item
    stays missing or unreadable, polled alone, is given up after ten polls.
    ``enough`` ends that have been seen end it too, and with ``fail_fast`` the first export that failed.
    ``patient`` has the wait go on through such rejections too, but not with a connection that cannot be used.
    ``unauthorized`` tells that the last poll's token was refused, so that the connection should be looked up again.
    ``apart`` are the ids that are requested each alone (see `api.lookup`).
    """

    export_ids: Sequence[str]
    end_time: float | None = None
    jobs: dict[str, ExportJob] = field(default_factory=dict)
    refused: dict[str, SevenBridgesError] = field(default_factory=dict)
    strikes: int = STRIKES
    unauthorized: bool = False
    enough: int | None = None
    fail_fast: bool = False
    patient: bool = False
    apart: Apart = field(default_factory=dict)
    _strikes: dict[str, int] = field(default_factory=dict)
    _unreadable: dict[str, int] = field(default_factory=dict)
    _in_trouble: bool = False
    _told: int = 0
    _failed: int = 0
    _open: dict[str, None] = field(init=False)

    def __post_init__(self) -> None:
        self._open = dict.fromkeys(self.export_ids)

    @property
    def open(self) -> list[str]:
        """The ids that are still to be asked for."""
        return list(self._open)

    @property
    def batches(self) -> list[list[str]]:
        """The ids to ask for next, at most 100 together."""
        ids = self.open
        return [ids[start : start + BULK_LIMIT] for start in range(0, len(ids), BULK_LIMIT)]

    def take(
        self, asked: Sequence[str], answer: Sequence[ExportJob | SevenBridgesError] | SevenBridgesError
    ) -> list[str]:
        """Take the answer to a poll for some ids, or the error that came instead; return lines worth logging."""
        self.unauthorized = isinstance(answer, SevenBridgesAuthError)
        if isinstance(answer, SevenBridgesError):
            if answer.permanent:
                return [line for export_id in asked for line in self._refusal(export_id, answer)]
            return self._trouble(answer)
        lines: list[str] = []
        for export_id, told in zip(asked, answer, strict=True):
            lines += self._take_one(export_id, told)
        return lines + self._progress()

    def _trouble(self, error: SevenBridgesError) -> list[str]:
        lines = [] if self._in_trouble else [f"The wait goes on in spite of trouble: {error}"]
        self._in_trouble = True
        return lines

    def _take_one(self, export_id: str, told: ExportJob | SevenBridgesError) -> list[str]:
        if isinstance(told, SevenBridgesUnreadableItem):
            return self._strike(self._unreadable, UNREADABLE_STRIKES, export_id, told)
        if isinstance(told, SevenBridgesError):
            self.unauthorized = self.unauthorized or isinstance(told, SevenBridgesAuthError)
            return self._refusal(export_id, told) if told.permanent else self._trouble(told)
        lines = ["The Platform answers again."] if self._in_trouble else []
        self._in_trouble = False
        self._strikes.pop(export_id, None)
        self._unreadable.pop(export_id, None)
        before = self.jobs.get(export_id)
        if before is None or told.state != before.state or told.ended:
            # What has not changed is not replaced: ten thousand fresh objects are work for the garbage collector.
            self.jobs[export_id] = told
        if told.ended:
            self._settle(export_id)
            self._failed += told.failed
        # That a new one is pending is no news.
        if self._are_many or told.state == (before.state if before else ExportState.PENDING):
            return lines
        return [*lines, f"Export {export_id} is {told.state}."]

    @property
    def _are_many(self) -> bool:
        return len(self.export_ids) > MANY

    def _progress(self) -> list[str]:
        """Return a line each time that another tenth of many has ended."""
        total, ended = len(self.export_ids), len(self.export_ids) - len(self._open)
        if not self._are_many or ended * 10 // total == self._told * 10 // total:
            return []
        self._told = ended
        failed = f", {self._failed:,} of them failed" if self._failed else ""
        return [f"{ended:,} of {total:,} exports have ended{failed}."]

    def _refusal(self, export_id: str, error: SevenBridgesError) -> list[str]:
        if self.patient and isinstance(error, SevenBridgesApiError):
            self._strikes[export_id] = self._strikes.get(export_id, 0) + 1
            is_first = self._strikes[export_id] == 1
            return [f"Export {export_id} cannot be seen; the wait goes on: {error}"] if is_first else []
        return self._strike(self._strikes, self.strikes, export_id, error)

    def _strike(self, strikes: dict[str, int], limit: int, export_id: str, error: SevenBridgesError) -> list[str]:
        strikes[export_id] = strikes.get(export_id, 0) + 1
        if strikes[export_id] < limit:
            return []
        self.refused[export_id] = error
        self._failed += 1
        self._settle(export_id)
        return [f"Export {export_id} cannot be seen any more: {error}"]

    def _settle(self, export_id: str) -> None:
        self._open.pop(export_id, None)
        self.apart.pop(export_id, None)

    @property
    def over(self) -> bool:
        """Whether nothing is left to ask."""
        return not self._open

    @property
    def has_enough(self) -> bool:
        """Whether so many have ended that whoever waits should go on."""
        if self.fail_fast and self._failed:
            return True
        return self.enough is not None and len(self.export_ids) - len(self._open) >= self.enough

    def settled(self, export_id: str) -> bool:
        """Whether nothing more is to be asked about an export."""
        return export_id not in self._open

    def event(self, now: float) -> dict[str, Any] | None:
        """Return the trigger's event if the wait is over, else None: plain values only, small, no secrets.

        ``status`` is ``ended``, ``some ended`` (enough of them), ``refused`` or ``timeout``. If there is only one,
        ``export_id`` and ``job`` too.
        """
        if self.over:
            status = "refused" if self.refused else "ended"
        elif self.has_enough:
            status = "some ended"
        elif self.end_time is not None and now >= self.end_time:
            status = "timeout"
        else:
            return None
        event: dict[str, Any] = {"status": status}
        if self.refused:
            export_id, error = next(iter(self.refused.items()))
            event["message"] = f"Export {export_id} cannot be seen: {error}"
        if len(self.export_ids) == 1:
            event["export_id"] = self.export_ids[0]
            if job := self.jobs.get(self.export_ids[0]):
                event["job"] = job.to_json()
        return event


def is_one_id(value: object) -> bool:
    """Whether a value means one export id, not a list of them."""
    return isinstance(_parse_ids(value), str)


def read_export_ids(value: object) -> list[str]:
    """Return the ids that a value means: one or a list, also as text, None (or its text) for none; each once.

    :raises SevenBridgesInputError: for anything else, and for more than 1000.
    """
    parsed = _parse_ids(value)
    given = [parsed] if isinstance(parsed, str) else parsed
    # An id of digits only is a number after native rendering.
    given = [str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in given]
    wrong = [item for item in given if not isinstance(item, str) or not _EXPORT_ID.fullmatch(item)]
    if wrong:
        raise SevenBridgesInputError(
            f"export_id: {wrong[0]!r} is no export id; give the XCom 'export_id' of the task that started the export."
        )
    ids = list(dict.fromkeys(given))
    if len(ids) > MAX_IDS:
        raise SevenBridgesInputError(f"export_id: {len(ids)} ids are too many; give at most {MAX_IDS} to one sensor.")
    return ids


def _parse_ids(value: object) -> str | list[Any]:
    """Return one id or a list of ids; text may be an id, a list as JSON or Python writes it, or ``None``."""
    if value is None or (isinstance(value, str) and value.strip() in ("None", "null")):
        return []
    parsed = from_text(value)
    if isinstance(parsed, str):
        return parsed.strip()
    items = as_list(parsed)
    return [parsed] if items is None else [item for item in items if item is not None]
