"""The trigger that waits for exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.hooks.connection import DEFAULT_CONN_NAME
from airflow_sb_provider.jobs.watch import POLL_INTERVAL
from airflow_sb_provider.triggers.base import SevenBridgesJobTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence


class SevenBridgesExportTrigger(SevenBridgesJobTrigger):
    """Wait until exports reach a terminal state.

    It only polls and never submits, because Airflow may run a trigger twice. Its event has a ``status``: ``terminal``,
    ``partial``, ``rejected`` or ``timeout``. It also has ``export_id`` and the ``job`` if there is one export, and a
    ``message`` if the Platform rejects the polls.

    :param export_ids: the ids of the exports to wait for.
    :param sevenbridges_conn_id: the Airflow connection.
    :param poll_interval: seconds between two polls.
    :param end_time: the end of the wait in epoch seconds, which survives a restart; None for no limit. It is a time of
        the worker's clock: a triggerer whose clock is a minute ahead ends the wait a minute early.
    :param export_id: an id or a list, also as text, instead of ``export_ids``, for a sensor that starts from its
        trigger. Airflow renders it before the trigger runs.
    :param min_finished: the number of terminal exports that ends the wait; None for all.
    :param fail_fast: whether the first failed export ends the wait.
    :param silent_fail: whether the wait continues when the Platform rejects the polls (401, 403, 404).
    :param end_from_trigger: whether to end the task in the triggerer when all exports are completed.
    :param do_xcom_push: whether to push the task's result then.
    :raises SevenBridgesInputError: if an id or the interval is invalid, or there are more than 1000 ids.
    """

    kind = EXPORT
    export_ids: tuple[str, ...]
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
        end_from_trigger: bool = False,
        do_xcom_push: bool = True,
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
            end_from_trigger=end_from_trigger,
            do_xcom_push=do_xcom_push,
        )
