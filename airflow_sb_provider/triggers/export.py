"""The trigger that waits for exports in the triggerer."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow_sb_provider._compat import AirflowNotFoundException, BaseTrigger, TriggerEvent
from airflow_sb_provider.exceptions import SevenBridgesError, SevenBridgesInputError
from airflow_sb_provider.exports.waiting import FIRST_POLL, POLL_INTERVAL, Watch
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesAsyncHook, SevenBridgesHook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from airflow_sb_provider.api.models import ExportJob
    from airflow_sb_provider.exceptions import SevenBridgesApiError


class SevenBridgesExportTrigger(BaseTrigger):
    """Waits until exports have ended, and only asks: it may run twice, so it never starts anything.

    Its event holds ``status`` (``ended``, ``refused`` or ``timeout``), ``adopted``, for one export its ``job``, and a
    ``message`` if the Platform refuses to tell.

    :param export_ids: what to wait for.
    :param sevenbridges_conn_id: the Airflow connection.
    :param poll_interval: seconds between two polls.
    :param end_time: when to give up, in epoch seconds, so that it survives a restart; None for never.
    :param adopted: whether the export was taken over; handed on in the event.
    """

    def __init__(
        self,
        export_ids: Sequence[str],
        sevenbridges_conn_id: str = SevenBridgesHook.default_conn_name,
        poll_interval: float = POLL_INTERVAL,
        end_time: float | None = None,
        adopted: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.export_ids = list(export_ids)
        self.sevenbridges_conn_id = sevenbridges_conn_id
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.adopted = adopted

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments: ids and numbers only, for they are stored in clear text."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "export_ids": self.export_ids,
                "sevenbridges_conn_id": self.sevenbridges_conn_id,
                "poll_interval": self.poll_interval,
                "end_time": self.end_time,
                "adopted": self.adopted,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the wait is over, then yield its one event."""
        watch = Watch(self.export_ids, self.end_time)
        hook = SevenBridgesAsyncHook(self.sevenbridges_conn_id)
        # Airflow 3.3 can mark a task failed that is resumed while its deferral is still being recorded.
        pause = FIRST_POLL
        try:
            while True:
                await asyncio.sleep(pause)
                await self._poll(hook, watch)
                now = time.time()
                if event := watch.event(now):
                    yield TriggerEvent({**event, "adopted": self.adopted})
                    return
                pause = watch.pause(now, self.poll_interval)
        finally:
            await hook.close()

    async def _poll(self, hook: SevenBridgesAsyncHook, watch: Watch) -> None:
        for batch in watch.batches:
            answer: list[ExportJob | SevenBridgesApiError] | SevenBridgesError
            try:
                if watch.unauthorized:
                    await hook.reconnect()
                answer = await hook.get_exports(batch, again=False)
            except AirflowNotFoundException as error:
                answer = SevenBridgesInputError(str(error))
            except SevenBridgesError as error:
                answer = error
            for line in watch.take(batch, answer):
                self.log.info(line)
