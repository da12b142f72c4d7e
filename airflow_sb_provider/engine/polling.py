"""Wait in a worker for exports to end, and look at what they made."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from tenacity import Retrying

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.calls import BULK_LIMIT
from airflow_sb_provider.api.lookup import Lookup
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import (
    SevenBridgesConnectionError,
    SevenBridgesError,
    SevenBridgesForbiddenError,
    SevenBridgesInDoubt,
    SevenBridgesNotFoundError,
    SevenBridgesRateLimitError,
)
from airflow_sb_provider.hooks.retry import retry_rules
from airflow_sb_provider.jobs.poll_schedule import Schedule
from airflow_sb_provider.jobs.rate_limiter import Pacing
from airflow_sb_provider.jobs.watch import LAST_LOOK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from airflow_sb_provider.api.models import ExportJob, Volume, VolumeObject
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
    from airflow_sb_provider.jobs.watch import Watch

T = TypeVar("T")

# How long an error page is waited out before a read that only adds to what is known already.
SOON = 30.0


def poll(hook: SevenBridgesHook, watch: Watch) -> dict[str, Any] | None:
    """Poll once all that a watch waits for; return its event if the wait is over."""
    for batch in watch.batches:
        for _ in _poll(hook, watch, batch):
            pass
    return watch.event(time.time())


def _poll(
    hook: SevenBridgesHook, watch: Watch, batch: list[str], tell: Callable[[Watch, str], None] | None = None
) -> Iterator[tuple[int, SevenBridgesError | None]]:
    """Send the requests of one poll; yield after each how many ids it named, and what came instead of an answer."""
    lookup: Lookup[ExportJob] = Lookup(batch, watch.apart)
    is_unauthorized = False
    while asked := lookup.next():
        error: SevenBridgesError | None = None
        try:
            answers = lookup.take(hook.send(calls.get_exports(asked), again=False))
        except SevenBridgesError as caught:
            error = caught
            answers = lookup.take(error)
        lines = watch.take(list(answers), list(answers.values()))
        is_unauthorized = is_unauthorized or watch.unauthorized
        for line in lines:
            hook.log.info(line)
        if tell and lines and not watch.over:
            tell(watch, lines[-1])
        yield len(asked), error
    watch.unauthorized = is_unauthorized
    if is_unauthorized:
        hook.reconnect()


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
        for items, error in _poll(hook, watch, batch, tell):
            if not isinstance(error, SevenBridgesConnectionError):
                refused = isinstance(error, SevenBridgesRateLimitError)
                pacing.told(hook.rate_limit, items, time.time(), refused=refused)
        for export_id in batch:
            if watch.settled(export_id):
                schedule.drop(export_id)
            else:
                schedule.asked(export_id, asked_at)
        all_asked = last_look is None or (schedule.next_at or asked_at) > last_look
        if (watch.over or all_asked) and (event := watch.event(time.time())):
            return event


def volume_or_none(hook: SevenBridgesHook, volume: str, *, needed: bool = True) -> Volume | None:
    """Return a volume's details, None (and a line in the log) if the token may not see them.

    :param needed: false where nothing depends on them, such as after the export: then trouble is a line in the log too.
    """
    try:
        return hook.get_volume(volume) if needed else _soon(hook, hook.get_volume, volume)
    except SevenBridgesError as error:
        if needed and not isinstance(error, SevenBridgesForbiddenError | SevenBridgesNotFoundError):
            raise
        hook.log.warning(
            "The volume %s cannot be read, so the object's address is not known: %s", readable(volume), error
        )
        return None


def look_at_object(hook: SevenBridgesHook, job: ExportJob, size: int | None) -> VolumeObject | None:
    """Read what a completed export made.

    :param size: the file's size in bytes, None if it is not known.
    :returns: the object; None (and a warning in the log) if it cannot be read, since the export itself is completed.
    :raises SevenBridgesInDoubt: if nothing is there or its size is another one.
    """
    if not (job.volume and job.location):
        return None
    try:
        found = _soon(hook, hook.find_volume_object, job.volume, job.location)
    except SevenBridgesError as error:
        hook.log.warning(
            "Export %s is COMPLETED, but its object cannot be read, so its size is not checked: %s", job.id, error
        )
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


def _soon(hook: SevenBridgesHook, read: Callable[..., T], *arguments: str) -> T:
    """Return what a method of the hook reads, with patience for what passes soon."""
    value: T = Retrying(**retry_rules(hook.log, page_patience=SOON))(read, *arguments, again=False)
    return value
