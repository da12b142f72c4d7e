"""A slow XCom backend that stores every value in a file and records its callers."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

from airflow.providers.common.io.xcom.backend import XComObjectStorageBackend

SECONDS = 0.5


class SlowStore(XComObjectStorageBackend):
    """The backend of Airflow's common.io provider, but slow."""

    @staticmethod
    def serialize_value(value, **where):
        _called("serialize_value", where.get("key"))
        return XComObjectStorageBackend.serialize_value(value, **where)

    @staticmethod
    def deserialize_value(result):
        _called("deserialize_value", getattr(result, "key", None))
        return XComObjectStorageBackend.deserialize_value(result)


def _called(what, key):
    try:
        on_loop = bool(asyncio.get_running_loop())
    except RuntimeError:
        on_loop = False
    with Path(os.environ["SLOW_STORE_CALLS"]).open("a") as calls:
        calls.write(json.dumps({"what": what, "key": key, "on_loop": on_loop}) + "\n")
    time.sleep(SECONDS)
