"""Read what a completed export made: its object, and the volume's details for the object's address."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from tenacity import Retrying

from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import (
    SevenBridgesError,
    SevenBridgesForbiddenError,
    SevenBridgesInDoubt,
    SevenBridgesNotFoundError,
)
from airflow_sb_provider.hooks.retry import retry_rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_sb_provider.api.models import ExportJob, Volume, VolumeObject
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

T = TypeVar("T")

# How long an error page is waited out before a read that only adds to what is known already.
SOON = 30.0
# How long after COMPLETED a read of the object may still show what was there before.
APPEARS_WITHIN = 30.0
OBJECT_PAUSE = 3.0


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


def read_object(hook: SevenBridgesHook, job: ExportJob, size: int | None) -> VolumeObject | None:
    """Read what a completed export made; it, or the size of what was there before, may show some seconds late.

    :param size: the file's size in bytes, None if it is not known.
    :returns: the object; None (and a warning in the log) if it cannot be read, since the export itself is completed.
    :raises SevenBridgesInDoubt: if nothing is there or its size is another one, still after `APPEARS_WITHIN`.
    """
    if not (job.volume and job.location):
        return None
    give_up_at = time.monotonic() + APPEARS_WITHIN
    try:
        found = _soon(hook, hook.find_volume_object, job.volume, job.location)
        while not _is_made(found, size) and time.monotonic() < give_up_at:
            time.sleep(OBJECT_PAUSE)
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
    if not _is_made(found, size):
        raise SevenBridgesInDoubt(
            f"Export {job.id} is COMPLETED, but the object at {job.volume}/{job.location} has {found.size} bytes and "
            f"the file {size}. Check the object before anything relies on it."
        )
    return found


def _is_made(found: VolumeObject | None, size: int | None) -> bool:
    """Whether an object may be what a file of this size was exported to."""
    return found is not None and (None in (found.size, size) or found.size == size)


def _soon(hook: SevenBridgesHook, read: Callable[..., T], *arguments: str) -> T:
    """Return what a method of the hook reads, with patience for what passes soon."""
    value: T = Retrying(**retry_rules(hook.log, max_gateway_wait=SOON))(read, *arguments, retry=False)
    return value
