"""The life of an export job: it waits, it runs while the bytes move, it ends."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
import time
from typing import TYPE_CHECKING

from airflow_sb_provider.emulator.errors import Refusal, refusal_in_job
from airflow_sb_provider.emulator.platform import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_sb_provider.emulator.platform import ExportJob, Platform

log = logging.getLogger(__name__)


class Jobs:
    """Runs each job as a task of the server's loop; the bytes move in threads.

    Everything but `wake` is called in the loop's thread.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._knobs = platform.knobs
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._locks: dict[tuple[str, ...], asyncio.Lock] = collections.defaultdict(asyncio.Lock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0
        self._knobs.on_change(self.wake)

    def start(self, job: ExportJob) -> asyncio.Task[None]:
        """Let an accepted job run."""
        task = self._loop.create_task(self._live(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Abandon all jobs where they are."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def wake(self) -> None:
        """Let waiting jobs look again at knobs and holds; from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _live(self, job: ExportJob) -> None:
        try:
            await self._leave(job, lambda: self._knobs.pending_seconds)
            job.enter("RUNNING")
            self._running += 1
            try:
                await self._run(job)
            finally:
                self._running -= 1
                if self._knobs.max_running:
                    self._wake()
        except Refusal as refusal:
            self._end(job, refusal_in_job(refusal))
        except Exception:
            log.exception("export %s: the storage failed", job.id)
            self._end(job, Refusal(9100))

    async def _leave(self, job: ExportJob, seconds: Callable[[], float]) -> None:
        """Return when the job has been long enough in its state and nothing holds it there."""
        began = time.monotonic()
        while True:
            changed = self._changed
            rest = began + seconds() - time.monotonic()
            if job.state == "PENDING":
                full = 0 < self._knobs.max_running <= self._running
                held = full or self._knobs.stuck or job.held == "PENDING"
            else:
                held = job.held == job.state
            if rest <= 0 and not held:
                return
            try:
                await asyncio.wait_for(changed.wait(), None if held else rest)
            except TimeoutError:
                continue

    async def _run(self, job: ExportJob) -> None:
        platform, storage = self._platform, self._platform.storage
        file, volume = platform.files[job.file], platform.volumes[job.volume]
        key = platform.key(volume, job.location)
        if job.fail_with:
            await self._leave(job, lambda: self._knobs.running_seconds)
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
        await self._leave(job, lambda: self._knobs.running_seconds)
        # The world may have changed meanwhile: a twin may have moved the file, another job may have taken the place.
        async with self._locks[volume.bucket, key], self._locks[(file.id,)]:
            platform.check_volume(volume)
            platform.check_source(file, volume)
            if not job.overwrite or self._knobs.overwrite_denied:
                await asyncio.to_thread(platform.check_free, volume, job.location)
            # Marked before the bytes are there and again at the end, so that a late object is never seen between.
            platform.exported[volume.bucket, key] = now()
            await asyncio.to_thread(storage.export, file.id, volume.bucket, key)
            if not job.copy_only:
                await asyncio.to_thread(storage.delete_source, file.id)
                file.before_move = dataclasses.replace(file)
                file.alias, file.modified_on = (volume.id, job.location), now()
            platform.exported[volume.bucket, key] = now()
            self._end(job, None)

    def _end(self, job: ExportJob, error: Refusal | None) -> None:
        job.error = error
        job.finished_on = now()
        job.enter(job.fail_as if error else "COMPLETED")
