"""Ten thousand files in one task: memory, requests, and the size of stored values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from airflow_sb_provider.emulator import Emulator, Knobs

PROJECT = "demo/many"
POLL = "/v2/bulk/storage/exports/get"
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(600)


def run(emulator, fields):
    """Run the task in its own process and return its cost."""
    environment = {**os.environ, "AIRFLOW_CONN_SEVENBRIDGES_DEFAULT": emulator.connection_json()}
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.ten_thousand"],
        input=json.dumps(fields),
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_files_cost_as_much_per_file_as_ten_thousand(tmp_path, capsys):
    costs = {}
    for count in (10_000, 100_000):
        with Emulator(knobs=Knobs(pending_seconds=0.2, running_seconds=0.2, rate_limit=10**9)) as emulator:
            for n in range(count):
                emulator.add_file(f"{n:06}.vcf", b"x", PROJECT)
            fields = {
                "project": PROJECT,
                "volume": "demo/results",
                "location_pattern": "many/{name}",
                "max_files": None,
            }
            cost = run(emulator, {**fields, "manifest": f"file://{tmp_path}/{count}.jsonl"})
            cost["requests"] = len(emulator.requests)
        assert cost["counts"] == {"COMPLETED": count}
        assert max(cost["largest"].values()) < 65536
        costs[count] = cost
    small, large = costs.values()
    growth = {
        name: large[name] / small[name] / 10 for name in ("cpu_seconds", "requests", "store_reads", "store_writes")
    }
    with capsys.disabled():
        print(f"\n  10,000: {small}\n  100,000: {large}\n  cost per file, 100,000 to 10,000: {growth}")
    assert large["memory"] < 500e6
    assert max(growth[name] for name in ("requests", "store_reads", "store_writes")) <= 1.2


@pytest.mark.parametrize(("kind", "count", "allowed"), [("a list", 10_000, 2.2), ("a selection", 2000, 3.3)])
def test_thousands_of_files(kind, count, allowed, capsys):
    with Emulator(knobs=Knobs(pending_seconds=0.2, running_seconds=0.2, rate_limit=10**6)) as emulator:
        ids = [emulator.add_file(f"{n:05}.vcf", b"x", PROJECT).id for n in range(count)]
        if kind == "a list":
            fields = {"exports": [{"file": each, "volume": "demo/results", "location": f"many/{each}"} for each in ids]}
        else:
            fields = {"project": PROJECT, "volume": "demo/results", "location_pattern": "many/{name}"}
        cost = run(emulator, fields)
        requests = Counter(record.path for record in emulator.requests)
        exported = Counter(job.file for job in emulator.exports)
    polls = requests.pop(POLL)
    for_a_hundred = requests.total() / (count / 100)
    figures = [
        f"{count:,} files of {kind}: {cost['memory'] / 1e6:.0f} MB (before: {cost['memory_before'] / 1e6:.0f})",
        f"{for_a_hundred:.2f} requests for a hundred and {polls} polls",
        f"{cost['seconds']:.0f} s ({cost['cpu_seconds']:.0f} s CPU)",
        f"{cost['deferrals']} deferrals, {cost['store_writes']} writes, largest values {cost['largest']}",
    ]
    with capsys.disabled():
        print("\n  " + ", ".join(figures))
    assert exported == Counter(ids)
    assert cost["counts"] == {"COMPLETED": count}
    assert cost["memory"] < 300e6
    assert for_a_hundred <= allowed
    assert max(cost["largest"].values()) < 65536
