"""The sensor that waits for tasks of the Platform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_sb_provider._compat import conf
from airflow_sb_provider.api.task import Task
from airflow_sb_provider.engine.task_result import read_outcome
from airflow_sb_provider.exceptions import SevenBridgesTaskFailed
from airflow_sb_provider.hooks.connection import DEFAULT_CONN_NAME
from airflow_sb_provider.links.urls import task_page
from airflow_sb_provider.sensors.base import SevenBridgesJobSensor
from airflow_sb_provider.tasks.kind import TASK
from airflow_sb_provider.triggers.task import SevenBridgesTaskTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider._compat import Context


class SevenBridgesTaskSensor(SevenBridgesJobSensor[Task]):
    """Wait until tasks of the Platform reach a terminal state, whoever started them; fail if one of them failed.

    For one id, the result is the dict that `SevenBridgesTaskOperator` returns; for a list, a list of them.

    :param sevenbridges_task_id: one id of a task of the Platform, or a list of at most 1000, also as text. None means
        that there is nothing to wait for. Airflow's own ``task_id`` is the sensor's. (templated)
    :param sevenbridges_conn_id: the Airflow connection of a user who can see the tasks. (templated)
    :param deferrable: whether to wait in the triggerer. ``poke_interval``, ``timeout``, ``soft_fail``, ``silent_fail``
        and ``never_fail`` have the same meaning there.
    :param start_from_trigger: whether to start in the triggerer, so that a worker is needed only at the end. It needs
        Airflow 3.3 (earlier versions only defer) and an id that is text or a template.
    :raises AirflowFailException: if a task failed; a retry of the sensor cannot succeed.
    :raises AirflowSensorTimeout: if a task is not terminal at the end of ``timeout``.
    """

    template_fields: Sequence[str] = ("sevenbridges_task_id", "sevenbridges_conn_id")
    kind = TASK
    trigger_class = SevenBridgesTaskTrigger
    failure = SevenBridgesTaskFailed

    def __init__(
        self,
        *,
        sevenbridges_task_id: str | Sequence[str] | None,
        sevenbridges_conn_id: str = DEFAULT_CONN_NAME,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            sevenbridges_conn_id=sevenbridges_conn_id,
            deferrable=deferrable,
            start_from_trigger=start_from_trigger,
            **kwargs,
        )
        self.sevenbridges_task_id = sevenbridges_task_id
        self._start_in_trigger()

    def _results(self, context: Context, jobs: Sequence[Task]) -> Any:
        endpoint = self.hook.settings.endpoint
        results = [
            read_outcome(self.hook, task.id).to_result(task_page(endpoint, task.project, task.id)) for task in jobs
        ]
        return results[0] if self._is_single else results
