"""Runs export jobs: PENDING, RUNNING while the bytes are copied, then a terminal state."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
from typing import TYPE_CHECKING

from airflow_sb_provider.emulator.errors import ApiError, error_in_job
from airflow_sb_provider.emulator.platform import now

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.jobs import Jobs
    from airflow_sb_provider.emulator.platform import ExportJob, Platform

log = logging.getLogger(__name__)


class ExportRuns:
    """Runs exports, and copies the bytes in threads."""

    def __init__(self, platform: Platform, jobs: Jobs) -> None:
        self._platform = platform
        self._knobs = platform.knobs
        self._jobs = jobs
        self._locks: dict[tuple[str, ...], asyncio.Lock] = collections.defaultdict(asyncio.Lock)

    def start(self, job: ExportJob) -> asyncio.Task[None]:
        """Start an accepted job."""
        return self._jobs.start(self._run_to_end(job))

    async def _run_to_end(self, job: ExportJob) -> None:
        try:
            await self._jobs.wait_in_state(job, lambda: self._knobs.pending_seconds)
            job.enter("RUNNING")
            with self._jobs.running(job):
                await self._transfer(job)
        except ApiError as error:
            self._finish(job, error_in_job(error))
        except Exception:
            log.exception("Export %s: the storage failed.", job.id)
            self._finish(job, ApiError(9100))

    async def _transfer(self, job: ExportJob) -> None:
        platform, storage = self._platform, self._platform.storage
        file, volume = platform.files[job.file], platform.volumes[job.volume]
        key = platform.key(volume, job.location)
        if job.fail_with:
            await self._jobs.wait_in_state(job, lambda: self._knobs.running_seconds)
            raise job.fail_with
        platform.check_volume(volume)
        if not (self._knobs.delete_before_check or self._knobs.overwrite_deletes_first):
            platform.check_source(file, volume)
        if job.overwrite and not self._knobs.overwrite_denied:
            async with self._locks[volume.bucket, key]:
                await asyncio.to_thread(storage.delete, volume.bucket, key)
        else:
            await asyncio.to_thread(platform.check_free, volume, job.location)
        platform.check_source(file, volume)
        await self._jobs.wait_in_state(job, lambda: self._knobs.running_seconds)
        # Check again: meanwhile another job may have moved the same file, or written to the same location.
        async with self._locks[volume.bucket, key], self._locks[(file.id,)]:
            platform.check_volume(volume)
            platform.check_source(file, volume)
            if not job.overwrite or self._knobs.overwrite_denied:
                await asyncio.to_thread(platform.check_free, volume, job.location)
            # Set before and after the write, so that object_lag_seconds hides the object during the write, too.
            platform.exported[volume.bucket, key] = now()
            await asyncio.to_thread(storage.export, file.id, volume.bucket, key)
            if not job.copy_only:
                await asyncio.to_thread(storage.delete_source, file.id)
                file.before_move = dataclasses.replace(file)
                file.alias, file.modified_on = (volume.id, job.location), now()
            platform.exported[volume.bucket, key] = now()
            self._finish(job, None)

    def _finish(self, job: ExportJob, error: ApiError | None) -> None:
        job.error = error
        job.finished_on = now()
        job.enter(job.fail_as if error else "COMPLETED")
