"""The Airflow names that moved between 2.11 and 3.x, each from where this Airflow has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from airflow.triggers.base import BaseTrigger, StartTriggerArgs, TriggerEvent

if TYPE_CHECKING:
    from airflow.observability.stats import Stats
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger
    from airflow.sdk import (
        BaseHook,
        BaseOperator,
        BaseOperatorLink,
        BaseSensorOperator,
        Connection,
        Context,
        ObjectStoragePath,
        PokeReturnValue,
    )
    from airflow.sdk.configuration import conf
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
    )
    from airflow.sdk.execution_time.xcom import XCom
else:
    try:
        from airflow.sdk import (
            BaseHook,
            BaseOperator,
            BaseOperatorLink,
            BaseSensorOperator,
            Connection,
            ObjectStoragePath,
            PokeReturnValue,
        )
    except ImportError:
        from airflow.hooks.base import BaseHook
        from airflow.io.path import ObjectStoragePath
        from airflow.models import Connection
        from airflow.models.baseoperator import BaseOperator
        from airflow.models.baseoperatorlink import BaseOperatorLink
        from airflow.sensors.base import BaseSensorOperator, PokeReturnValue
    try:
        from airflow.sdk.execution_time.xcom import XCom
    except ImportError:
        from airflow.models.xcom import XCom
    try:
        from airflow.sdk.configuration import conf
    except ImportError:
        from airflow.configuration import conf
    try:
        from airflow.sdk.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowNotFoundException,
            AirflowSensorTimeout,
            AirflowSkipException,
        )
    except ImportError:
        from airflow.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowNotFoundException,
            AirflowSensorTimeout,
            AirflowSkipException,
        )
    try:
        # Not the SDK's, which a triggerer does not set up.
        from airflow.observability.stats import Stats
    except ImportError:
        from airflow.stats import Stats
    try:
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger
    except ImportError:
        from airflow.triggers.temporal import DateTimeTrigger
    Context = dict[str, Any]

_VERSION = tuple(int(part) for part in airflow_version.split(".")[:3] if part.isdigit())
AIRFLOW_RENDERS_TRIGGERS = _VERSION >= (3, 3)

__all__ = [
    "AIRFLOW_RENDERS_TRIGGERS",
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "BaseTrigger",
    "Connection",
    "Context",
    "DateTimeTrigger",
    "ObjectStoragePath",
    "PokeReturnValue",
    "StartTriggerArgs",
    "Stats",
    "TriggerEvent",
    "XCom",
    "airflow_version",
    "conf",
    "get_connection_async",
]


async def get_connection_async(conn_id: str) -> Connection:
    """Return a connection from a triggerer's event loop without blocking it.

    Airflow before 3.3.2 has no asynchronous look-up that works there, so that a thread asks.
    """
    if _VERSION >= (3, 3, 2):
        return await BaseHook.aget_connection(conn_id)
    from asgiref.sync import sync_to_async

    return await sync_to_async(BaseHook.get_connection)(conn_id)
