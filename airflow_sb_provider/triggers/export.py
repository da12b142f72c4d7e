"""The trigger that waits for exports in the triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.hooks.connection import DEFAULT_CONN_NAME
from airflow_sb_provider.jobs.watch import POLL_INTERVAL
from airflow_sb_provider.triggers.base import SevenBridgesJobTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence


class SevenBridgesExportTrigger(SevenBridgesJobTrigger):
    """Waits until exports have ended, and only polls: it may run twice, so it never starts anything.

    Its event holds ``status`` (``terminal``, ``partial``, ``rejected`` or ``timeout``), for one export
    ``export_id`` and its ``job``, and a ``message`` if the Platform rejects the polls.

    :param export_ids: what to wait for.
    :param sevenbridges_conn_id: the Airflow connection.
    :param poll_interval: seconds between two polls.
    :param end_time: when to give up, in epoch seconds, so that it survives a restart; None for never. It comes from
        the worker's clock: a triggerer's clock that is ahead by a minute gives up a minute early.
    :param export_id: instead of ``export_ids``, for a sensor that starts from its trigger: an id or a list, also as
        text, which Airflow renders before the trigger runs.
    :param min_finished: how many exports must have ended for the wait to end; None for all.
    :param fail_fast: the first export that failed ends the wait too.
    :param silent_fail: a rejection (401, 403, 404) does not end the wait.
    """

    kind = EXPORT
    export_ids: list[str]
    export_id: str | Sequence[str] | None

    def __init__(
        self,
        export_ids: Sequence[str] = (),
        sevenbridges_conn_id: str = DEFAULT_CONN_NAME,
        poll_interval: float = POLL_INTERVAL,
        end_time: float | None = None,
        export_id: str | Sequence[str] | None = None,
        min_finished: int | None = None,
        fail_fast: bool = False,
        silent_fail: bool = False,
    ) -> None:
        super().__init__(
            export_ids,
            export_id,
            sevenbridges_conn_id=sevenbridges_conn_id,
            poll_interval=poll_interval,
            end_time=end_time,
            min_finished=min_finished,
            fail_fast=fail_fast,
            silent_fail=silent_fail,
        )
