"""Runs one try of a bulk export and prints its cost as JSON; `test_ten_thousand.py` starts it as a process."""

from __future__ import annotations

import json
import resource
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from tests.integration.in_process.conftest import Runner, first_event


class Measured(Runner):
    """A store that records the size of the largest value of each key."""

    def __init__(self):
        super().__init__()
        self.largest = dict.fromkeys(("trigger", "event", "xcom", "store"), 0)
        self.store = MeasuredStore(self)

    def measure(self, kind, value):
        self.largest[kind] = max(self.largest[kind], len(json.dumps(value, default=str)))

    def _push(self, key, value):
        self.measure("xcom", value)
        super()._push(key, value)


class MeasuredStore:
    """Airflow's store of a task's state, on disk, so that it does not count as the task's memory."""

    def __init__(self, runner):
        self.runner = runner
        self.reads = self.writes = 0
        self.folder = tempfile.TemporaryDirectory()
        self.rows = sqlite3.connect(Path(self.folder.name, "store.db"), isolation_level=None)
        self.rows.execute("PRAGMA synchronous = off")
        self.rows.execute("CREATE TABLE store (key TEXT PRIMARY KEY, value TEXT)")

    def get(self, key, default=None):
        self.reads += 1
        row = self.rows.execute("SELECT value FROM store WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else default

    def set(self, key, value):
        self.runner.measure("store", value)
        self.writes += 1
        self.rows.execute("INSERT OR REPLACE INTO store VALUES (?, ?)", (key, json.dumps(value)))

    def delete(self, key):
        self.rows.execute("DELETE FROM store WHERE key = ?", (key,))


def peak_memory():
    """Return the peak memory of this process in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage, because on Linux it includes the process that started this one.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(fields):
    from airflow_sb_provider.jobs import poll_schedule as schedule
    from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
    from tests.integration.in_process import conftest

    # Jobs are short here, so the first poll is early.
    schedule.FIRST_POLL = 1.0
    before, runner = peak_memory(), Measured()

    async def measured_event(trigger):
        runner.measure("trigger", trigger.serialize()[1])
        event = await first_event(trigger)
        runner.measure("event", event)
        return event

    conftest.first_event = measured_event
    operator = SevenBridgesBulkExportOperator(task_id="bulk", deferrable=True, poll_interval=2, **fields)
    began = time.monotonic()
    result = runner.run(operator)
    cost = {
        "seconds": time.monotonic() - began,
        "cpu_seconds": sum(resource.getrusage(resource.RUSAGE_SELF)[:2]),
        "memory_before": before,
        "memory": peak_memory(),
        "deferrals": len(runner.deferrals),
        "store_reads": runner.store.reads,
        "store_writes": runner.store.writes,
        "largest": runner.largest,
        "counts": result["counts"],
    }
    print(json.dumps(cost))


if __name__ == "__main__":
    main(json.load(sys.stdin))
