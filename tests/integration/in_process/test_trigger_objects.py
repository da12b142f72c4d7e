"""How much a garbage collection visits while many triggers wait: it stops all triggers of a triggerer meanwhile."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

from airflow.triggers.base import BaseTrigger

from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger

TRIGGERS = 200
MOST = 13


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
        # A tuple of texts and numbers is not visited from its second collection on.
        gc.collect()
        gc.collect()
        after = len(gc.get_objects())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return (after - before) / TRIGGERS

    return asyncio.run(count())


def test_a_waiting_trigger_adds_few_objects_to_those_of_airflow(platform):
    platform.knobs.stuck = True
    files = [platform.add_file(f"{number}.txt", b"x").id for number in range(TRIGGERS + 1)]
    requests = [ExportRequest(file, "demo/archive", f"{file}.txt") for file in files]
    ids = iter([job.id for job in SevenBridgesHook().start_exports(requests, copy_only=True)])

    def are_waiting(count):
        """Whether so many have been polled twice, so that the first response has arrived."""
        polls = [record for record in platform.requests if record.path == "/v2/bulk/storage/exports/get"]
        times = Counter(export_id for record in polls for export_id in record.json["export_ids"])
        return sum(polled > 1 for polled in times.values()) >= count

    ours = objects_per_trigger(lambda: SevenBridgesExportTrigger(export_id=next(ids), poll_interval=1), are_waiting)
    sleeping = objects_per_trigger(Sleeping, lambda count: True)
    # The watch, its subscription, the job and its time, and how a poll's result reaches them.
    assert ours - sleeping <= MOST
