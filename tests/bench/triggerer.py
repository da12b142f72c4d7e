"""Airflow's TriggerRunner with a script instead of its supervisor; one process per cell.

Prints ``ready``, reads the time at which the clock starts, and prints the report.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import resource
import sys
import time
from collections import Counter, deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import greenback
from airflow.executors.workloads.trigger import RunTrigger
from airflow.jobs.triggerer_job_runner import TriggerRunner, messages
from airflow.providers_manager import ProvidersManager
from airflow.sdk.bases.hook import BaseHook
from airflow.sdk.log import configure_logging
from airflow.secrets.environment_variables import EnvironmentVariablesBackend

from tests.bench.designs import DESIGNS, Wait
from tests.bench.plan import Cell

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.jobs.triggerer_job_runner import TriggerEventEntry
    from airflow.triggers.base import BaseTrigger

BEAT = 0.05
BEATS_PER_SAMPLE = 5


class CountedNull(io.FileIO):
    """Discards and counts the log lines, which would go to the supervisor."""

    def __init__(self) -> None:
        super().__init__(os.devnull, "wb")
        self.lines = 0

    def write(self, text: Any) -> int:
        self.lines += 1
        return super().write(text) or 0


class Events(deque["TriggerEventEntry"]):
    """The runner's queue of events, which also records the time of each event."""

    def __init__(self, runner: ScriptedRunner) -> None:
        super().__init__()
        self._runner = runner

    def append(self, entry: TriggerEventEntry) -> None:
        super().append(entry)
        self._runner.record(entry.trigger_id, entry.event.payload)


class ScriptedRunner(TriggerRunner):
    """Creates, runs and cleans up triggers like Airflow; the cell replaces the messages of the supervisor."""

    def __init__(self, cell: Cell, share: int, began: float, send: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self.events = Events(self)
        self._cell, self._began = cell, began
        self._send = send
        self._design = DESIGNS[cell.design]
        self._script = [trigger for trigger in enumerate(cell.triggers()) if trigger[0] % cell.triggerers == share]
        self._creating = asyncio.Lock()
        self._helpers: list[asyncio.Task[None]] = []
        self._running: set[asyncio.Task[None]] = set()
        self.created: dict[int, float] = {}
        self.fired: dict[int, float] = {}
        self.failed: dict[int, float] = {}
        self.reasons: Counter[str] = Counter()
        self.lag: list[tuple[float, float, float]] = []
        self._collecting_since = self._collected = 0.0
        self._collecting_cpu = self._longest_collection = 0.0
        self.rss_before = self.rss_at_peak = self.peak_waiting = 0
        self.cpu = 0.0

    async def arun(self) -> None:
        await super().arun()
        self._send(self._report())
        # Thousands of triggers may still wait; they need no cleanup.
        os._exit(0)

    @property
    def _now(self) -> float:
        return time.time() - self._began

    def record(self, trigger_id: int, payload: Any) -> None:
        try:
            good = self._design.succeeded(payload)
        except (KeyError, TypeError):
            good = False
        (self.fired if good else self.failed).setdefault(trigger_id, self._now)
        if not good:
            self.reasons[str(payload)[:200]] += 1

    @property
    def _waiting(self) -> int:
        return len(self.created) - len(self.fired) - len(self.failed)

    async def init_comms(self) -> None:
        self.comms_decoder: Any = SimpleNamespace(_reader_task=asyncio.create_task(asyncio.Event().wait()))
        await asyncio.sleep(self._began - time.time())
        gc.collect()
        gc.callbacks.append(self._note_collection)
        self.rss_before, self.cpu = _rss(), -time.process_time()
        self._helpers = [asyncio.create_task(self._feed()), asyncio.create_task(self._beat())]

    async def asend(self, msg: messages.TriggerStateChanges) -> messages.TriggerStateSync:  # codespell:ignore asend
        for trigger_id, trace in msg.failures or ():
            self.failed.setdefault(trigger_id, self._now)
            self.reasons[(trace or ["no event"])[-1].strip()[:200]] += 1
        for helper in self._helpers:
            if helper.done():
                helper.result()
        return messages.TriggerStateSync(to_create=[], to_cancel=set())

    async def create_triggers(self) -> None:
        # The script and the runner's loop both call this; concurrent calls would pop from an empty queue.
        async with self._creating:
            await super().create_triggers()

    async def _feed(self) -> None:
        for number, (start, finish) in self._script:
            if (pause := start - self._now) > 0:
                await self.create_triggers()
                await asyncio.sleep(pause)
            kwargs = self._design.kwargs(Wait(number, self._began + finish, self._cell.together))
            self.to_create.append(
                RunTrigger(id=number, classpath=self._design.classpath, encrypted_kwargs=json.dumps(kwargs))
            )
        await self.create_triggers()

    def run_trigger(self, trigger_id: int, *args: Any, **kwargs: Any) -> Any:
        # Not async: another coroutine around the runner's would add memory to Airflow's.
        self.created[trigger_id] = self._now
        return super().run_trigger(trigger_id, *args, **kwargs)

    async def _beat(self) -> None:
        clock = time.monotonic
        due = clock()
        while not self.stop:
            due += BEAT
            await asyncio.sleep(due - clock())
            late, due = clock() - due, clock()
            self.lag.append((round(self._now, 2), round(late, 5), round(self._collected, 5)))
            self._collected = 0.0
            if len(self.lag) % BEATS_PER_SAMPLE == 0 and self._waiting >= self.peak_waiting:
                self.peak_waiting, self.rss_at_peak = self._waiting, _rss()
            if len(self.fired) + len(self.failed) == len(self._script) or self._now > self._cell.cap:
                self.cpu += time.process_time()
                self._handle_signal(None, None)

    def _note_collection(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._collecting_since, self._collecting_cpu = time.monotonic(), time.thread_time()
        else:
            self._collected += time.monotonic() - self._collecting_since
            # CPU time, because other processes prolong the time on the clock.
            self._longest_collection = max(self._longest_collection, time.thread_time() - self._collecting_cpu)

    def _report(self) -> dict[str, Any]:
        return {
            "created": self.created,
            "fired": self.fired,
            "failed": self.failed,
            "reasons": self.reasons.most_common(3),
            "lag": self.lag,
            "longest_collection": self._longest_collection,
            "rss_before": self.rss_before,
            "rss_at_peak": self.rss_at_peak,
            "peak_waiting": self.peak_waiting,
            "cpu": self.cpu,
            "ended": self._now,
        }


class BareRunner(ScriptedRunner):
    """Runs triggers on an event loop without Airflow's runner, with only the portal that each gets from it."""

    async def arun(self) -> None:
        await self.init_comms()
        while not self.stop:
            await asyncio.sleep(1)
        self._send(self._report())
        os._exit(0)

    async def create_triggers(self) -> None:
        async with self._creating:
            while self.to_create:
                workload = self.to_create.popleft()
                await asyncio.sleep(0)
                trigger = self.get_trigger_by_classpath(workload.classpath)(**json.loads(workload.encrypted_kwargs))
                await asyncio.sleep(0)
                self.created[workload.id] = self._now
                self._running.add(asyncio.create_task(self._run_bare(workload.id, trigger)))

    async def _run_bare(self, trigger_id: int, trigger: BaseTrigger) -> None:
        await greenback.ensure_portal()
        try:
            async for event in trigger.run():
                self.record(trigger_id, event.payload)
        except Exception as error:
            self.failed.setdefault(trigger_id, self._now)
            self.reasons[str(error)[:200]] += 1


def _rss() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def _count_connection_reads() -> Counter[str]:
    counts: Counter[str] = Counter()
    original = EnvironmentVariablesBackend.get_conn_value

    def counted(self: EnvironmentVariablesBackend, conn_id: str, team_name: str | None = None) -> str | None:
        counts[conn_id] += 1
        return original(self, conn_id, team_name)

    EnvironmentVariablesBackend.get_conn_value = counted
    return counts


def main(cell: Cell, share: int) -> None:
    # Airflow's output must not mix with the results.
    results = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    log = CountedNull()
    configure_logging(json_output=True, output=log, sending_to_supervisor=True)
    # Otherwise errors of the benchmark would be discarded with the log.
    sys.excepthook = sys.__excepthook__
    design = DESIGNS[cell.design]
    manager = ProvidersManager()
    manager.initialize_providers_hooks()
    connection_reads = _count_connection_reads()
    if cell.design == "dbt-cloud":
        _let_dbt_speak_http()
    if cell.design not in ("naive", "null"):
        BaseHook.get_connection("sevenbridges_default" if cell.design == "ours" else "bench")
    connection_reads.clear()
    print("ready", file=results, flush=True)
    began = float(sys.stdin.readline())

    def send(report: dict[str, Any]) -> None:
        print(
            json.dumps({**report, "log_lines": log.lines, "look_ups": connection_reads.total()}),
            file=results,
            flush=True,
        )

    runner = (BareRunner if cell.bare else ScriptedRunner)(cell, share, began, send)
    runner.get_trigger_by_classpath(design.classpath)
    runner.run()


def _let_dbt_speak_http() -> None:
    from airflow.providers.dbt.cloud.hooks.dbt import DbtCloudHook

    original = DbtCloudHook.get_request_url_params

    def plain(*args: Any, **kwargs: Any) -> tuple[str, dict[str, Any]]:
        url, params = original(*args, **kwargs)
        return url.replace("https://", "http://", 1), params

    DbtCloudHook.get_request_url_params = staticmethod(plain)


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    main(Cell(**arguments["cell"]), arguments["share"])
