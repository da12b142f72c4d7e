"""Wait in a worker for exports to end, and look at what they made."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_sb_provider.api import calls
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesError,
    SevenBridgesForbiddenError,
    SevenBridgesInDoubt,
    SevenBridgesNotFoundError,
)
from airflow_sb_provider.exports.waiting import FIRST_POLL

if TYPE_CHECKING:
    from typing import Any

    from airflow_sb_provider.api.models import ExportJob, Volume, VolumeObject
    from airflow_sb_provider.exports.waiting import Watch
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook


def poll(hook: SevenBridgesHook, watch: Watch) -> dict[str, Any] | None:
    """Ask once about all that a watch waits for; return its event if the wait is over."""
    for batch in watch.batches:
        answer: list[ExportJob | SevenBridgesApiError] | SevenBridgesError
        try:
            answer = hook.send(calls.get_exports(batch), again=False)
        except SevenBridgesError as error:
            answer = error
        for line in watch.take(batch, answer):
            hook.log.info(line)
        if watch.unauthorized:
            hook.reconnect()
    return watch.event(time.time())


def wait(hook: SevenBridgesHook, watch: Watch, poll_interval: float) -> dict[str, Any]:
    """Poll every ``poll_interval`` seconds until a watch is over; return its event."""
    pause = min(FIRST_POLL, poll_interval)
    while True:
        time.sleep(pause)
        if event := poll(hook, watch):
            return event
        pause = watch.pause(time.time(), poll_interval)


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
