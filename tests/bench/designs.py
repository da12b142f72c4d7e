"""The triggers of each design, and how a successful event is recognized."""

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
HEADER = {"X-SBG-Auth-Token": TOKEN}
PROVIDERS = "airflow.providers"


@dataclass(frozen=True)
class Wait:
    """What a trigger waits for: a number for the peers, export ids and a path for this provider; until when (epoch)."""

    number: int
    finish: float
    together: int = 1

    @property
    def exports(self) -> list[str]:
        return [f"{self.number * self.together + each:032d}" for each in range(self.together)]

    @property
    def path(self) -> str:
        return f"v2/storage/exports/{self.exports[0]}"


@dataclass(frozen=True)
class Design:
    """A trigger class, its arguments, and the test of its event."""

    title: str
    classpath: str
    kwargs: Callable[[Wait], dict[str, Any]]
    succeeded: Callable[[Any], bool]


DESIGNS = {
    "ours": Design(
        "SevenBridgesExportTrigger",
        "airflow_sb_provider.triggers.export.SevenBridgesExportTrigger",
        lambda wait: {"export_ids": wait.exports, "poll_interval": INTERVAL},
        # The event of a trigger for many jobs has no states.
        lambda event: (
            event["status"] == "terminal" and event.get("job", {"state": "COMPLETED"})["state"] == "COMPLETED"
        ),
    ),
    "databricks": Design(
        "DatabricksExecutionTrigger",
        f"{PROVIDERS}.databricks.triggers.databricks.DatabricksExecutionTrigger",
        lambda wait: {"run_id": wait.number, "databricks_conn_id": "bench", "polling_period_seconds": int(INTERVAL)},
        lambda event: "SUCCESS" in event["run_state"],
    ),
    "dbt-cloud": Design(
        "DbtCloudRunJobTrigger",
        f"{PROVIDERS}.dbt.cloud.triggers.dbt.DbtCloudRunJobTrigger",
        lambda wait: {"run_id": wait.number, "conn_id": "bench", "account_id": 1, **_peer()},
        lambda event: event["status"] == "success",
    ),
    "airbyte": Design(
        "AirbyteSyncTrigger",
        f"{PROVIDERS}.airbyte.triggers.airbyte.AirbyteSyncTrigger",
        lambda wait: {"job_id": wait.number, "conn_id": "bench", **_peer()},
        lambda event: event["status"] == "success",
    ),
    "http": Design(
        "HttpEventTrigger",
        f"{PROVIDERS}.http.triggers.http.HttpEventTrigger",
        lambda wait: {
            "response_check_path": "tests.bench.finished.finished",
            "http_conn_id": "bench",
            "endpoint": wait.path,
            "headers": HEADER,
            "poll_interval": INTERVAL,
        },
        lambda event: event["status"] == "success",
    ),
    "naive": Design(
        "a GET for each job, one aiohttp session",
        "tests.bench.naive.NaiveTrigger",
        lambda wait: {"path": wait.path, "headers": HEADER, "poll_interval": INTERVAL},
        lambda event: event["state"] == "COMPLETED",
    ),
    "null": Design(
        "sleeps, sends no requests",
        "tests.bench.naive.SleepTrigger",
        lambda wait: {"finish": wait.finish, "poll_interval": INTERVAL},
        lambda event: event["state"] == "COMPLETED",
    ),
}


def _peer() -> dict[str, float]:
    return {"poll_interval": INTERVAL, "end_time": FOREVER}


def environment(design: str, port: int) -> dict[str, str]:
    """Return the environment variables with the design's connection to the server."""
    base = f"http://127.0.0.1:{port}"
    own: dict[str, dict[str, Any]] = {
        "ours": {"conn_type": "sevenbridges", "host": base},
        "databricks": {"conn_type": "databricks", "host": "127.0.0.1", "port": port, "schema": "http"},
        "dbt-cloud": {"conn_type": "dbt_cloud", "host": f"127.0.0.1:{port}"},
    }
    fields = own.get(design, {"conn_type": "http", "host": base})
    name = "AIRFLOW_CONN_SEVENBRIDGES_DEFAULT" if design == "ours" else "AIRFLOW_CONN_BENCH"
    secret = {"password": TOKEN} if design in own else {}
    return {name: json.dumps({**fields, **secret}), "BENCH_SERVER": base}
