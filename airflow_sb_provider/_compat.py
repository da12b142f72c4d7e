"""Airflow names that moved between 2.11 and 3.x, imported from where the installed Airflow has them."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from airflow.listeners.listener import get_listener_manager
from airflow.triggers.base import BaseTrigger, StartTriggerArgs, TaskSuccessEvent, TriggerEvent
from packaging.version import Version

if TYPE_CHECKING:
    from airflow.observability.stats import Stats
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger
    from airflow.sdk import (
        Asset,
        AssetAlias,
        BaseHook,
        BaseOperator,
        BaseOperatorLink,
        BaseSensorOperator,
        Connection,
        Context,
        ObjectStoragePath,
        PokeReturnValue,
        RetryAction,
        RetryDecision,
        RetryPolicy,
    )
    from airflow.sdk.bases.xcom import BaseXCom as PlainXCom
    from airflow.sdk.configuration import conf
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
    )
    from airflow.triggers.base import BaseEventTrigger
    from airflow.triggers.shared_stream import SharedStreamProducer

    HAS_XCOM_BACKEND: bool
else:
    try:
        from airflow.sdk import (
            Asset,
            AssetAlias,
            BaseOperator,
            BaseOperatorLink,
            BaseSensorOperator,
            Connection,
            ObjectStoragePath,
            PokeReturnValue,
        )
    except ImportError:
        from airflow.datasets import Dataset as Asset
        from airflow.datasets import DatasetAlias as AssetAlias
        from airflow.io.path import ObjectStoragePath
        from airflow.models import Connection
        from airflow.models.baseoperator import BaseOperator
        from airflow.models.baseoperatorlink import BaseOperatorLink
        from airflow.sensors.base import BaseSensorOperator, PokeReturnValue
    try:
        from airflow.sdk import BaseHook
    except ImportError:
        from airflow.hooks.base import BaseHook
    try:
        from airflow.sdk.bases.xcom import BaseXCom
        from airflow.sdk.bases.xcom import BaseXCom as PlainXCom
        from airflow.sdk.execution_time.xcom import XCom
    except ImportError:
        from airflow.models.xcom import BaseXCom, XCom
        from airflow.utils.session import create_session

        class PlainXCom:
            """Airflow's own class, which in Airflow 2 writes plain values, but reads them through the backend."""

            set = BaseXCom.set

            @staticmethod
            def get_value(*, ti_key, key):
                where = {"run_id": ti_key.run_id, "dag_ids": ti_key.dag_id, "task_ids": ti_key.task_id, "key": key}
                with create_session() as session:
                    entries = BaseXCom.get_many(**where, map_indexes=ti_key.map_index, limit=1, session=session)
                    entry = entries.with_entities(BaseXCom.value).first()
                    return BaseXCom.deserialize_value(entry) if entry else None

    # Whether XComs are stored elsewhere, with references to them in Airflow's database. PlainXCom has none.
    HAS_XCOM_BACKEND = XCom is not BaseXCom
    try:
        from airflow.sdk.configuration import conf
    except ImportError:
        from airflow.configuration import conf
    try:
        from airflow.sdk.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowNotFoundException,
            AirflowRescheduleException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
        )
    except ImportError:
        from airflow.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowNotFoundException,
            AirflowRescheduleException,
            AirflowSensorTimeout,
            AirflowSkipException,
            AirflowTaskTimeout,
        )
    try:
        # Not the SDK's, which a triggerer does not initialize.
        from airflow.observability.stats import Stats
    except ImportError:
        from airflow.stats import Stats
    try:
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger
    except ImportError:
        from airflow.triggers.temporal import DateTimeTrigger
    try:
        from airflow.triggers.base import BaseEventTrigger
        from airflow.triggers.shared_stream import SharedStreamProducer
    except ImportError:
        # Before 3.3 a watcher cannot be created, but its module can be imported.
        BaseEventTrigger, SharedStreamProducer = BaseTrigger, object
    try:
        from airflow.sdk.definitions.retry_policy import RetryAction, RetryDecision, RetryPolicy
    except ImportError:
        # Before 3.3 the provider's policy cannot be created, but its module can be imported.
        RetryAction, RetryDecision, RetryPolicy = None, None, object
    Context = dict[str, Any]

# A beta of 3.4 has the features of 3.4.
_VERSION = Version(airflow_version).release
AIRFLOW_RENDERS_TRIGGERS = _VERSION >= (3, 3)
AIRFLOW_CONFIRMS_EVENTS = _VERSION >= (3, 3)
# XComs of several mapped tasks are pulled as a sequence whose text does not show its items.
AIRFLOW_PULLS_LAZILY = _VERSION < (3,)
# 3.0 rejects an XCom that is None; a pull that finds nothing returns None, too.
AIRFLOW_STORES_NONE = _VERSION < (3,) or _VERSION >= (3, 1)
# Whether the events of one task start one run of a DAG that is scheduled on them, or one run each.
# The section of the address of Airflow's user interface.
BASE_URL_SECTION = "api" if _VERSION >= (3,) else "webserver"
BATCHES_ASSET_EVENTS = _VERSION < (3, 4) or conf.getboolean("scheduler", "batch_asset_events", fallback=False)
# 3.3 and later call it when a deferred task is cleared or marked; before, a trigger only sees that it is canceled.
TRIGGERS_ARE_KILLED = hasattr(BaseTrigger, "on_kill")
# Whether a watcher can be assigned to a queue of triggerers.
WATCHERS_HAVE_QUEUES = "queue" in signature(BaseEventTrigger.__init__).parameters
# Whether a retry policy can run a task again without using a retry.
AIRFLOW_RESCHEDULES = hasattr(RetryAction, "RESCHEDULE")


def state_of(ti: Any) -> str | None:
    """Return the state of a task instance, from a worker or a trigger of Airflow 3.

    :raises Exception: if Airflow does not answer, or before Airflow 3.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, map_index=ti.map_index, task_ids=[ti.task_id], run_ids=[ti.run_id]
    )
    # One of a mapped task has its index in the key.
    return next(iter(states.get(ti.run_id, {}).values()), None)


__all__ = [
    "AIRFLOW_CONFIRMS_EVENTS",
    "AIRFLOW_PULLS_LAZILY",
    "AIRFLOW_RENDERS_TRIGGERS",
    "AIRFLOW_RESCHEDULES",
    "AIRFLOW_STORES_NONE",
    "BASE_URL_SECTION",
    "BATCHES_ASSET_EVENTS",
    "HAS_XCOM_BACKEND",
    "TRIGGERS_ARE_KILLED",
    "WATCHERS_HAVE_QUEUES",
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "Asset",
    "AssetAlias",
    "BaseEventTrigger",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "BaseTrigger",
    "Connection",
    "Context",
    "DateTimeTrigger",
    "ObjectStoragePath",
    "PlainXCom",
    "PokeReturnValue",
    "RetryDecision",
    "RetryPolicy",
    "SharedStreamProducer",
    "StartTriggerArgs",
    "Stats",
    "TaskSuccessEvent",
    "TriggerEvent",
    "airflow_version",
    "conf",
    "get_connection_async",
    "get_listener_manager",
    "state_of",
]


async def get_connection_async(conn_id: str) -> Connection:
    """Return a connection from a triggerer's event loop without blocking it.

    Before Airflow 3.3.2 its asynchronous method does not work there, so this uses a thread.
    """
    if _VERSION >= (3, 3, 2):
        return await BaseHook.aget_connection(conn_id)
    from asgiref.sync import sync_to_async

    return await sync_to_async(BaseHook.get_connection)(conn_id)
