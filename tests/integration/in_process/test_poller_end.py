"""A poller that is told to stop stops, also where something else comes at that moment."""

from __future__ import annotations

import asyncio

from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.jobs.watch import Watch
from airflow_sb_provider.triggers.poller import Subscription, pollers


def test_news_at_the_moment_of_the_end_do_not_keep_it_alive(platform):
    platform.knobs.stuck = True
    file = platform.add_file("a.txt", b"x").id
    export_id = SevenBridgesHook().start_export(file, "demo/results", "a.txt").id

    async def run():
        waiting = pollers()
        waiter = Subscription(Watch(EXPORT, [export_id]), "sevenbridges_default", 60, lambda *news: None)
        waiting.add(waiter)
        while not waiter.watch.jobs:
            await asyncio.sleep(0.1)
        # Both wake the poller: that there is news, and that it is cancelled.
        waiter.hurry([export_id])
        await waiting.remove(waiter)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            _, left = await asyncio.wait(left, timeout=2)
        for task in left:
            task.cancel()
        return left

    assert not asyncio.run(run())
