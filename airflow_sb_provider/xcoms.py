"""Allow the hook's results as XComs.

Airflow deserializes an object in an XCom only if its class is allowed in the reading process. The hook allows its
classes when it is imported, and the provider's plugin in every process that runs tasks, so that you do not have to
change ``[core] allowed_deserialization_classes``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_sb_provider import exceptions
from airflow_sb_provider.api import models, task

if TYPE_CHECKING:
    from airflow.sdk import serde
else:
    # Not from `_compat`, which a web server does not need.
    try:
        from airflow.sdk import serde
    except ImportError:
        from airflow.serialization import serde


def allow_results() -> None:
    """Allow this process to deserialize the hook's results from XComs."""
    for item in (value for module in (models, task, exceptions) for value in vars(module).values()):
        if isinstance(item, type) and issubclass(item, models.Storable | exceptions.SevenBridgesApiError):
            if hasattr(serde, "allow_class"):
                serde.allow_class(item)
            else:
                # Before Airflow 3.3 there is no other way without a setting.
                serde._extra_allowed.add(f"{item.__module__}.{item.__qualname__}")
