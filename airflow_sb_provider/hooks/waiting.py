"""Wait in a worker for exports to end, and look at what they made."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_sb_provider.api.calls import BULK_LIMIT
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesConnectionError,
    SevenBridgesError,
    SevenBridgesForbiddenError,
    SevenBridgesInDoubt,
    SevenBridgesNotFoundError,
    SevenBridgesRateLimitError,
)
from airflow_sb_provider.exports.pacing import Pacing
from airflow_sb_provider.exports.schedule import Schedule
from airflow_sb_provider.exports.waiting import LAST_LOOK

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from airflow_sb_provider.api.models import ExportJob, Volume, VolumeObject
    from airflow_sb_provider.exports.waiting import Watch
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook


def poll(hook: SevenBridgesHook, watch: Watch) -> dict[str, Any] | None:
    """Ask once about all that a watch waits for; return its event if the wait is over."""
    for batch in watch.batches:
        _ask(hook, watch, batch)
    return watch.event(time.time())


def _ask(
    hook: SevenBridgesHook, watch: Watch, batch: list[str], tell: Callable[[Watch, str], None] | None = None
) -> SevenBridgesError | None:
    answer: list[ExportJob | SevenBridgesApiError] | SevenBridgesError
    try:
        answer = hook.get_exports(batch, again=False)
    except SevenBridgesError as error:
        answer = error
    lines = watch.take(batch, answer)
    for line in lines:
        hook.log.info(line)
    if tell and lines and not watch.over:
        tell(watch, lines[-1])
    if watch.unauthorized:
        hook.reconnect()
    return answer if isinstance(answer, SevenBridgesError) else None


def wait(
    hook: SevenBridgesHook, watch: Watch, poll_interval: float, tell: Callable[[Watch, str], None] | None = None
) -> dict[str, Any]:
    """Poll every ``poll_interval`` seconds, and once more at the end of the time, until a watch is over.

    :param tell: called with what is worth logging, as long as more is to come.
    :returns: the watch's event.
    """
    schedule, pacing = Schedule(), Pacing()
    for export_id in watch.export_ids:
        schedule.add(export_id, poll_interval, time.time())
    last_look: float | None = None
    while True:
        due = schedule.next_at or time.time()
        if watch.end_time is not None and last_look is None:
            due = min(due, watch.end_time)
        time.sleep(max(0.0, due - time.time()))
        if watch.end_time is not None and last_look is None and time.time() >= watch.end_time:
            last_look = time.time()
            for export_id in watch.open:
                schedule.hurry(export_id, last_look)
        pause = pacing.pause(schedule.wanted, time.time(), min(len(watch.open), BULK_LIMIT))
        time.sleep(pause if last_look is None else min(pause, LAST_LOOK))
        asked_at = time.time()
        batch = schedule.take(asked_at)
        error = _ask(hook, watch, batch, tell)
        if not isinstance(error, SevenBridgesConnectionError):
            refused = isinstance(error, SevenBridgesRateLimitError)
            pacing.told(hook.rate_limit, len(batch), asked_at, refused=refused)
        for export_id in batch:
            if watch.settled(export_id):
                schedule.drop(export_id)
            else:
                schedule.asked(export_id, asked_at)
        all_asked = last_look is None or (schedule.next_at or asked_at) > last_look
        if (watch.over or all_asked) and (event := watch.event(time.time())):
            return event


def volume_or_none(hook: SevenBridgesHook, volume: str) -> Volume | None:
    """Return a volume's details, None (and a line in the log) if the token may not see them."""
    try:
        return hook.get_volume(volume)
    except (SevenBridgesForbiddenError, SevenBridgesNotFoundError) as error:
        hook.log.warning("The volume %s cannot be looked at, so the object's address is not known: %s", volume, error)
        return None


def look_at_object(hook: SevenBridgesHook, job: ExportJob, size: int | None) -> VolumeObject | None:
    """Look at what a completed export made.

    :param size: the file's size in bytes, None if it is not known.
    :returns: the object; None (and a line in the log) if the token may not look.
    :raises SevenBridgesInDoubt: if nothing is there or its size is another one.
    """
    if not (job.volume and job.location):
        return None
    try:
        found = hook.find_volume_object(job.volume, job.location)
    except SevenBridgesApiError as error:
        if not error.permanent:
            raise
        hook.log.warning("The exported object cannot be looked at, so its size is not checked: %s", error)
        return None
    if found is None:
        raise SevenBridgesInDoubt(
            f"Export {job.id} is COMPLETED, but no object is at {job.volume}/{job.location}. Check the bucket."
        )
    if None not in (found.size, size) and found.size != size:
        raise SevenBridgesInDoubt(
            f"Export {job.id} is COMPLETED, but the object at {job.volume}/{job.location} has {found.size} bytes and "
            f"the file {size}. Check the object before anything relies on it."
        )
    return found
