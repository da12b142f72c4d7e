"""How much a garbage collection visits while many triggers wait: it stops all triggers of a triggerer meanwhile."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger

TRIGGERS = 200
# More than those of Airflow's trigger that only sleeps, without and with the time at which the wait ends.
MOST, MOST_WITH_END = 4, 6


class Sleeping(BaseTrigger):
    """Airflow's own cost of a trigger."""

    def serialize(self):
        return "", {}

    async def run(self):
        await asyncio.sleep(3600)
        yield None


def objects_per_trigger(make, are_waiting):
    """Return how many objects the garbage collector visits for each trigger that waits."""

    async def count():
        # The first trigger brings the modules and the poller, which all others share.
        tasks = [asyncio.create_task(anext(make().run()))]
        while not are_waiting(1):
            await asyncio.sleep(0.01)
        gc.collect()
        before = len(gc.get_objects())
        tasks += [asyncio.create_task(anext(make().run())) for _ in range(TRIGGERS)]
        while not are_waiting(TRIGGERS + 1):
            await asyncio.sleep(0.01)
        counts = []
        for _ in range(8):
            # While a response arrives there are more objects. A tuple of texts and numbers is not visited from its
            # second collection on.
            await asyncio.sleep(0.1)
            gc.collect()
            gc.collect()
            counts.append(len(gc.get_objects()))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return (min(counts) - before) / TRIGGERS

    return asyncio.run(count())


@pytest.mark.parametrize(("seconds", "most"), [(None, MOST), (3600, MOST_WITH_END)], ids=["no end", "with end"])
def test_a_waiting_trigger_adds_few_objects_to_those_of_airflow(platform, seconds, most):
    platform.knobs.stuck = True
    files = [platform.add_file(f"{number}.txt", b"x").id for number in range(TRIGGERS + 1)]
    requests = [ExportRequest(file, "demo/archive", f"{file}.txt") for file in files]
    ids = iter([job.id for job in SevenBridgesHook().start_exports(requests, copy_only=True)])

    def are_waiting(count):
        """Whether so many have been polled twice, so that the first response has arrived."""
        polls = [record for record in platform.requests if record.path == "/v2/bulk/storage/exports/get"]
        times = Counter(export_id for record in polls for export_id in record.json["export_ids"])
        return sum(polled > 1 for polled in times.values()) >= count

    end_time = seconds and time.time() + seconds

    def make():
        return SevenBridgesExportTrigger([next(ids)], poll_interval=1, end_time=end_time)

    ours = objects_per_trigger(make, are_waiting)
    sleeping = objects_per_trigger(Sleeping, lambda count: True)
    assert ours - sleeping <= most


def test_a_trigger_gets_no_attributes_while_it_runs(platform):
    # Python gives an object a dict of its own if it gets an attribute that no earlier object of its class has.
    file = platform.add_file("a.txt", b"x").id
    export = SevenBridgesHook().start_export(file, "demo/archive", "a.txt", copy_only=True)
    trigger = SevenBridgesExportTrigger([export.id], poll_interval=0.1)
    before = set(vars(trigger))

    async def run():
        async for event in trigger.run():
            return event

    assert asyncio.run(run()).payload["status"] == "terminal"
    assert set(vars(trigger)) == before
