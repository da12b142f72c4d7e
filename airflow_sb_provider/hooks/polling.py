"""Poll jobs of any kind from a worker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api.calls import BULK_LIMIT
from airflow_sb_provider.api.lookup import Lookup
from airflow_sb_provider.exceptions import SevenBridgesConnectionError, SevenBridgesError, SevenBridgesRateLimitError
from airflow_sb_provider.jobs.poll_schedule import PollSchedule
from airflow_sb_provider.jobs.rate_limiter import RateLimiter
from airflow_sb_provider.jobs.watch import FinalPoll, Over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
    from airflow_sb_provider.jobs.watch import Watch

    ProgressCallback = Callable[[Watch[Any], str], None]


def deadline_of(end_time: float | None) -> float | None:
    """Convert an absolute time to this process's monotonic clock, so that clock changes have no effect.

    If the clocks of two machines differ, a wait that moves from one to the other ends that much sooner or later.

    :param end_time: epoch seconds by this machine's clock; None for no deadline.
    """
    return None if end_time is None else time.monotonic() + (end_time - time.time())


def poll(hook: SevenBridgesHook, watch: Watch[Any]) -> dict[str, Any] | None:
    """Poll all open ids of a watch once; return its event if the wait is over."""
    for batch in watch.batches:
        for _ in _poll_batch(hook, watch, batch):
            pass
    return watch.event(time.monotonic())


def _poll_batch(
    hook: SevenBridgesHook, watch: Watch[Any], batch: list[str], on_progress: ProgressCallback | None = None
) -> Iterator[tuple[int, SevenBridgesError | None]]:
    """Send the requests of one poll; yield after each its number of ids and its error, if any."""
    lookup: Lookup[Any] = Lookup(batch, watch.apart)
    is_unauthorized = False
    while ids := lookup.next():
        error: SevenBridgesError | None = None
        try:
            results = lookup.take(hook.send(watch.kind.get_many(ids), retry=False))
        except SevenBridgesError as caught:
            error = caught
            results = lookup.take(error)
        lines = watch.update(list(results), list(results.values()), time.monotonic())
        is_unauthorized = is_unauthorized or watch.unauthorized
        for line in lines:
            hook.log.info(line)
        if on_progress and lines and not watch.over:
            on_progress(watch, lines[-1])
        yield len(ids), error
    watch.unauthorized = is_unauthorized
    if is_unauthorized:
        hook.reconnect()


def wait(
    hook: SevenBridgesHook, watch: Watch[Any], poll_interval: float, on_progress: ProgressCallback | None = None
) -> dict[str, Any]:
    """Poll every ``poll_interval`` seconds, and once more at the deadline, until a watch is over.

    :param on_progress: called with the watch and its last log line, until the wait is over.
    :returns: the watch's event.
    """
    schedule, limiter = PollSchedule(), RateLimiter()
    for job_id in watch.ids:
        schedule.add(job_id, poll_interval, time.monotonic())
    while not isinstance(step := watch.next_step(time.monotonic()), Over):
        if isinstance(step, FinalPoll):
            for job_id in step.ids:
                schedule.poll_now(job_id, time.monotonic())
            continue
        _sleep_until(schedule.next_at, step.until)
        pause = limiter.pause(schedule.ids_per_second, time.time(), min(len(watch.open), BULK_LIMIT))
        # Not beyond the deadline: a poll that exceeds the rate limit is better than a time-out of a finished job.
        _sleep_until(time.monotonic() + pause, step.until)
        polled_at = time.monotonic()
        batch = schedule.next_batch(polled_at)
        for items, error in _poll_batch(hook, watch, batch, on_progress):
            if not isinstance(error, SevenBridgesConnectionError):
                throttled = isinstance(error, SevenBridgesRateLimitError)
                limiter.observe(hook.rate_limit, items, time.time(), throttled=throttled)
        for job_id in batch:
            if watch.is_closed(job_id):
                schedule.drop(job_id)
            else:
                schedule.mark_polled(job_id, polled_at)
    return step.event


def _sleep_until(*moments: float | None) -> None:
    """Sleep until the earliest of these times of the monotonic clock; None means never."""
    first = min((moment for moment in moments if moment is not None), default=None)
    if first is not None:
        time.sleep(max(0.0, first - time.monotonic()))
