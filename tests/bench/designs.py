"""How each design is told to wait for a job, and what its success looks like."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bench.plan import INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "0123456789abcdef0123456789abcdef"
FOREVER = time.time() + 86_400


@dataclass(frozen=True)
class Design:
    """A trigger class, its arguments for job ``number`` that will finish at ``finish``, and the test of its event."""

    title: str
    classpath: str
    kwargs: Callable[[str, int, float], dict[str, Any]]
    succeeded: Callable[[Any], bool]
    conn_id: str | None = None


def _export(number: int) -> str:
    return f"{number:032d}"


DESIGNS = {
    "ours": Design(
        "SevenBridgesExportTrigger",
        "airflow_sb_provider.triggers.export.SevenBridgesExportTrigger",
        lambda base, number, finish: {"export_ids": [_export(number)], "poll_interval": INTERVAL},
        lambda event: event["status"] == "ended" and event["job"]["state"] == "COMPLETED",
        "sevenbridges_default",
    ),
    "databricks": Design(
        "DatabricksExecutionTrigger",
        "airflow.providers.databricks.triggers.databricks.DatabricksExecutionTrigger",
        lambda base, number, finish: {
            "run_id": number + 1,
            "databricks_conn_id": "databricks_default",
            "polling_period_seconds": int(INTERVAL),
        },
        lambda event: "SUCCESS" in event["run_state"],
        "databricks_default",
    ),
    "dbt-cloud": Design(
        "DbtCloudRunJobTrigger",
        "airflow.providers.dbt.cloud.triggers.dbt.DbtCloudRunJobTrigger",
        lambda base, number, finish: {
            "conn_id": "dbt_cloud_default",
            "run_id": number + 1,
            "end_time": FOREVER,
            "poll_interval": INTERVAL,
            "account_id": 1,
        },
        lambda event: event["status"] == "success",
        "dbt_cloud_default",
    ),
    "airbyte": Design(
        "AirbyteSyncTrigger",
        "airflow.providers.airbyte.triggers.airbyte.AirbyteSyncTrigger",
        lambda base, number, finish: {
            "job_id": number + 1,
            "conn_id": "airbyte_default",
            "end_time": FOREVER,
            "poll_interval": INTERVAL,
        },
        lambda event: event["status"] == "success",
        "airbyte_default",
    ),
    "http": Design(
        "HttpEventTrigger",
        "airflow.providers.http.triggers.http.HttpEventTrigger",
        lambda base, number, finish: {
            "response_check_path": "tests.bench.finished.finished",
            "http_conn_id": "http_default",
            "endpoint": f"v2/storage/exports/{_export(number)}",
            "headers": {"X-SBG-Auth-Token": TOKEN},
            "poll_interval": INTERVAL,
        },
        lambda event: event["status"] == "success",
        "http_default",
    ),
    "naive": Design(
        "a GET for each job, one aiohttp session",
        "tests.bench.naive.NaiveTrigger",
        lambda base, number, finish: {
            "url": f"{base}/v2/storage/exports/{_export(number)}",
            "token": TOKEN,
            "poll_interval": INTERVAL,
        },
        lambda event: event["state"] == "COMPLETED",
    ),
    "null": Design(
        "sleeps, asks nobody",
        "tests.bench.naive.SleepTrigger",
        lambda base, number, finish: {"finish": finish, "poll_interval": INTERVAL},
        lambda event: event["state"] == "COMPLETED",
    ),
}


def connections(port: int) -> dict[str, str]:
    """The designs' connections, as environment variables."""
    url = f"http://127.0.0.1:{port}"
    found: dict[str, dict[str, Any]] = {
        "sevenbridges": {"host": url, "password": TOKEN},
        "databricks": {"host": "127.0.0.1", "port": port, "schema": "http", "password": TOKEN},
        "dbt_cloud": {"host": f"127.0.0.1:{port}", "login": "1", "password": TOKEN},
        "airbyte": {"host": url},
        "http": {"host": url},
    }
    return {
        f"AIRFLOW_CONN_{name.upper()}_DEFAULT": json.dumps({"conn_type": name, **fields})
        for name, fields in found.items()
    }
