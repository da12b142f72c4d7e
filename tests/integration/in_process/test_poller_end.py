"""A poller that is canceled stops, even if something else wakes it at that moment."""

from __future__ import annotations

import asyncio

from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.jobs.watch import Watch
from airflow_sb_provider.triggers.poller import Subscription, pollers


class Waiter:
    def report_progress(self, watch, lines, /):
        pass


def test_a_request_to_poll_while_it_is_canceled_does_not_keep_it_alive(platform):
    platform.knobs.stuck = True
    file = platform.add_file("a.txt", b"x").id
    export_id = SevenBridgesHook().start_export(file, "demo/results", "a.txt").id

    async def run():
        registry = pollers()
        subscription = Subscription(Watch(EXPORT, [export_id]), "sevenbridges_default", 60, Waiter())
        registry.add(subscription)
        while not subscription.watch.forgotten:
            await asyncio.sleep(0.1)
        # Both wake the poller: the request to poll and the cancellation.
        subscription.poll_now([export_id])
        await registry.remove(subscription)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            _, left = await asyncio.wait(left, timeout=2)
        for task in left:
            task.cancel()
        return left

    assert not asyncio.run(run())
