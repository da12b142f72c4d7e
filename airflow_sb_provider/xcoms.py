"""What the hook returns may be an XCom.

Airflow makes an object of an XCom only if its class is allowed in the process that reads it. The hook allows its
classes where it is imported, and the provider's plugin does in every process that runs tasks, so that nobody has to
change ``[core] allowed_deserialization_classes``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_sb_provider import exceptions
from airflow_sb_provider.api import models

if TYPE_CHECKING:
    from airflow.sdk import serde
else:
    # Not from `_compat`, which a web server would import in vain.
    try:
        from airflow.sdk import serde
    except ImportError:
        from airflow.serialization import serde


def allow_results() -> None:
    """Let this process make what the hook returns of XCom values."""
    for found in (*vars(models).values(), *vars(exceptions).values()):
        if isinstance(found, type) and issubclass(found, models.Storable | exceptions.SevenBridgesApiError):
            if hasattr(serde, "allow_class"):
                serde.allow_class(found)
            else:
                # Before Airflow 3.3 there is no other way without a setting.
                serde._extra_allowed.add(f"{found.__module__}.{found.__qualname__}")
