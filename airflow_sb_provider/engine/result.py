"""Read the object of a completed export, and the volume's details for the object's URI."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from tenacity import Retrying

from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import (
    SevenBridgesError,
    SevenBridgesForbiddenError,
    SevenBridgesNotFoundError,
)
from airflow_sb_provider.exports.verification import ExpectedObject, compare, in_doubt
from airflow_sb_provider.hooks.retry import retry_rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_sb_provider.api.models import ExportJob, Volume, VolumeObject
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

T = TypeVar("T")

# How long to retry after an error page, for a read whose result is optional.
PAGE_PATIENCE = 30.0
# How long after COMPLETED a read of the object may still return the previous state.
APPEARS_WITHIN = 30.0
OBJECT_RECHECK_INTERVAL = 3.0


def volume_or_none(hook: SevenBridgesHook, volume: str, *, needed: bool = True) -> Volume | None:
    """Return a volume's details; if the token has no access to them, log a warning and return None.

    :param needed: false if nothing depends on them, such as after the export: then any error is only logged.
    """
    try:
        return hook.get_volume(volume) if needed else _read(hook, hook.get_volume, volume)
    except SevenBridgesError as error:
        if needed and not isinstance(error, SevenBridgesForbiddenError | SevenBridgesNotFoundError):
            raise
        hook.log.warning("Could not read volume %s, so the object's URI is unknown: %s", readable(volume), error)
        return None


def read_object(hook: SevenBridgesHook, job: ExportJob, size: int | None) -> VolumeObject | None:
    """Return the object of a completed export. The Platform may show it, or its new size, some seconds late.

    :param size: the file's size in bytes; None if unknown.
    :returns: the object; None, with a warning in the log, if it cannot be read: the export itself is completed.
    :raises SevenBridgesInDoubt: if the object is missing or has another size after `APPEARS_WITHIN` seconds.
    """
    if not (job.volume and job.location):
        return None
    expected = ExpectedObject(volume=job.volume, location=job.location, size=size)
    give_up_at = time.monotonic() + APPEARS_WITHIN
    try:
        while True:
            # The worker may be paused between a read and this check: only a late enough read counts.
            is_last = time.monotonic() >= give_up_at
            verification = compare(expected, _read(hook, hook.find_volume_object, job.volume, job.location))
            if is_last or not verification.is_wrong:
                break
            time.sleep(OBJECT_RECHECK_INTERVAL)
    except SevenBridgesError as error:
        hook.log.warning(
            "Export %s is COMPLETED, but its object could not be read, so its size was not checked: %s", job.id, error
        )
        return None
    if verification.is_wrong:
        raise in_doubt(f"Export {job.id}", verification)
    return verification.object


def _read(hook: SevenBridgesHook, read: Callable[..., T], *arguments: str) -> T:
    """Call a method of the hook, with retries after transient errors."""
    value: T = Retrying(**retry_rules(hook.log, max_gateway_wait=PAGE_PATIENCE))(read, *arguments, retry=False)
    return value
