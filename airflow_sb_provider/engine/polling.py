"""Wait in a worker for jobs of any kind to end."""

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


def deadline_of(end_time: float | None) -> float | None:
    """Return on this process's monotonic clock when an absolute time has come, so that no jump of the clock matters.

    What remains: if the clocks of two machines differ, a wait that goes from one to the other ends that much sooner or
    later.

    :param end_time: epoch seconds by this machine's clock; None for never.
    """
    return None if end_time is None else time.monotonic() + (end_time - time.time())


def poll(hook: SevenBridgesHook, watch: Watch[Any]) -> dict[str, Any] | None:
    """Poll once all that a watch waits for; return its event if the wait is over."""
    for batch in watch.batches:
        for _ in _poll(hook, watch, batch):
            pass
    return watch.event(time.monotonic())


def _poll(
    hook: SevenBridgesHook, watch: Watch[Any], batch: list[str], tell: Callable[[Watch[Any], str], None] | None = None
) -> Iterator[tuple[int, SevenBridgesError | None]]:
    """Send the requests of one poll; yield after each how many ids it named, and what came instead of an answer."""
    lookup: Lookup[Any] = Lookup(batch, watch.apart)
    is_unauthorized = False
    while asked := lookup.next():
        error: SevenBridgesError | None = None
        try:
            answers = lookup.take(hook.send(watch.kind.get_many(asked), retry=False))
        except SevenBridgesError as caught:
            error = caught
            answers = lookup.take(error)
        lines = watch.take(list(answers), list(answers.values()), time.monotonic())
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
    hook: SevenBridgesHook,
    watch: Watch[Any],
    poll_interval: float,
    tell: Callable[[Watch[Any], str], None] | None = None,
) -> dict[str, Any]:
    """Poll every ``poll_interval`` seconds, and once more at the end of the time, until a watch is over.

    :param tell: called with what is worth logging, as long as more is to come.
    :returns: the watch's event.
    """
    schedule, pacing = PollSchedule(), RateLimiter()
    for job_id in watch.ids:
        schedule.add(job_id, poll_interval, time.monotonic())
    while not isinstance(step := watch.next_step(time.monotonic()), Over):
        if isinstance(step, FinalPoll):
            for job_id in step.ids:
                schedule.hurry(job_id, time.monotonic())
            continue
        _sleep_until(schedule.next_at, step.until)
        pause = pacing.pause(schedule.wanted, time.time(), min(len(watch.open), BULK_LIMIT))
        # Not beyond the deadline: a poll against the rate limit is better than a time-out of what has ended.
        _sleep_until(time.monotonic() + pause, step.until)
        asked_at = time.monotonic()
        batch = schedule.take(asked_at)
        for items, error in _poll(hook, watch, batch, tell):
            if not isinstance(error, SevenBridgesConnectionError):
                refused = isinstance(error, SevenBridgesRateLimitError)
                pacing.told(hook.rate_limit, items, time.time(), refused=refused)
        for job_id in batch:
            if watch.settled(job_id):
                schedule.drop(job_id)
            else:
                schedule.asked(job_id, asked_at)
    return step.event


def _sleep_until(*moments: float | None) -> None:
    """Sleep until the first of some moments of the monotonic clock; None is never."""
    first = min((moment for moment in moments if moment is not None), default=None)
    if first is not None:
        time.sleep(max(0.0, first - time.monotonic()))
