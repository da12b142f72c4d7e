"""`make bench`: run the cells, print the table and the targets, write JSON and plots."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench import plan, plots, report
from tests.bench.designs import connections
from tests.bench.measures import measure

if TYPE_CHECKING:
    from tests.bench.plan import Cell, Stage

DOCS = Path("docs")
COMPLETE = DOCS / "performance"
PARTIAL = Path("build/bench")
GRACE = 120.0


class Processes:
    """Child processes that read from and write to us; ended by the end of the block, whatever happens."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._all: list[asyncio.subprocess.Process] = []
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("AIRFLOW") and not name.lower().endswith("_proxy")
        }

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            if process.returncode is None:
                process.kill()

    async def start(self, module: str, arguments: dict[str, Any], **environment: str) -> asyncio.subprocess.Process:
        log = self._home / f"{module}-{len(self._all)}.log"
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                f"tests.bench.{module}",
                json.dumps(arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**self._environment, "AIRFLOW_HOME": str(self._home / log.stem), **environment},
                limit=2**26,
            )
        self._all.append(process)
        return process

    def errors(self) -> str:
        """The ends of what the processes complained of."""
        return "\n".join(log.read_text()[-1500:] for log in sorted(self._home.glob("*.log")) if log.stat().st_size)


def tell(process: asyncio.subprocess.Process, line: str) -> None:
    assert process.stdin
    process.stdin.write(f"{line}\n".encode())


async def hear(process: asyncio.subprocess.Process, seconds: float = GRACE) -> str:
    assert process.stdout
    line = await asyncio.wait_for(process.stdout.readline(), seconds)
    if not line:
        raise RuntimeError("the process ended without an answer")
    return line.decode()


async def run(cell: Cell, offset: float, all_ready: asyncio.Barrier) -> dict[str, Any]:
    """Run one cell in processes of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as home, Processes(Path(home)) as processes:
        try:
            server = await processes.start("server", cell.as_json())
            port = int(await hear(server))
            triggerers = [
                await processes.start(
                    "triggerer", {"cell": cell.as_json(), "share": share, "port": port}, **connections(port)
                )
                for share in range(cell.triggerers)
            ]
            for triggerer in triggerers:
                await hear(triggerer)
            await all_ready.wait()
            began = time.time() + 1 + offset
            tell(server, f"start {began}")
            for triggerer in triggerers:
                tell(triggerer, str(began))
            told = [json.loads(await hear(triggerer, offset + cell.cap + GRACE)) for triggerer in triggerers]
            tell(server, "stop")
            return measure(cell, json.loads(await hear(server)), told)
        except (RuntimeError, TimeoutError, asyncio.BrokenBarrierError) as error:
            await all_ready.abort()
            return {**cell.as_json(), "error": f"{type(error).__name__}: {error}\n{processes.errors()}"}


async def run_stage(stage: Stage) -> list[dict[str, Any]]:
    """Run a stage's cells; no clock starts before every process is ready."""
    barrier = asyncio.Barrier(len(stage.cells))
    return list(await asyncio.gather(*(run(cell, offset, barrier) for offset, cell in stage.cells)))


async def run_all(stages: list[Stage], console: Console, out: Path) -> dict[str, Any]:
    """Run the stages one after the other; what is measured is on disk after each."""
    results: dict[str, Any] = {"machine": report.machine_facts(), "cells": []}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    total = sum(stage.expected for stage in stages)
    with Progress(*columns, TextColumn("ends about {task.fields[end]}"), console=console) as progress:
        bar = progress.add_task("", total=len(stages), end="")
        done = 0.0
        for stage in stages:
            names = stage.cells[0][1].name if len(stage.cells) == 1 else f"{len(stage.cells)} light cells together"
            end = time.strftime("%H:%M", time.localtime(time.time() + total - done))
            progress.update(bar, description=names, end=end)
            began = time.time()
            measured = await run_stage(stage)
            for cell in measured:
                console.print(report.line(cell))
            results["cells"] += measured
            done += stage.expected
            progress.update(bar, advance=1, end=end)
            results["machine"]["seconds"] = results["machine"].get("seconds", 0.0) + time.time() - began
            out.mkdir(parents=True, exist_ok=True)
            report.write_json(results, out / "results.json")
    return results


def main() -> None:
    """Read the arguments, measure, and tell."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", help="designs, such as ours,null", default=",".join(plan.DESIGNS))
    parser.add_argument("--n", help="numbers of jobs, such as 100,1000")
    for kind in plan.SPREADS:
        parser.add_argument(f"--{kind}", action="append_const", dest="kinds", const=kind, help=f"only {kind} jobs")
    parser.add_argument("--limit", choices=("none", "requests", "items"), help="only with this rate limit")
    parser.add_argument("--seconds", type=float, help="shorter jobs, for development: they last up to so long")
    parser.add_argument("--list", action="store_true", help="tell what would run and how long it would take")
    parser.add_argument("--render", type=Path, help="measure nothing; tables and plots again from this results.json")
    options = parser.parse_args()
    console = Console()
    cells = plan.cells(options.only.split(","))
    complete = len(cells)
    sizes = {int(size) for size in options.n.split(",")} if options.n else set(plan.SIZES)
    cells = [cell for cell in cells if cell.jobs in sizes and cell.kind in (options.kinds or plan.SPREADS)]
    cells = [cell for cell in cells if options.limit in (None, cell.limit)]
    if options.seconds:
        cells = plan.with_spread(cells, options.seconds)
    whole = len(cells) == len(plan.cells()) == complete and not options.seconds
    out = COMPLETE if whole or options.render else PARTIAL
    stages = plan.stages(cells)
    if options.list:
        for stage in stages:
            console.print(f"{stage.expected:6.0f} s  " + "; ".join(cell.name for _, cell in stage.cells))
        console.print(f"{sum(stage.expected for stage in stages) / 60:6.0f} min, {len(cells)} cells")
        return
    results = json.loads(options.render.read_text()) if options.render else asyncio.run(run_all(stages, console, out))
    for table in report.tables(results["cells"]):
        console.print(table)
    console.print(report.targets_table(results["cells"]))
    plots.draw(results["cells"], out)
    if out == COMPLETE:
        report.write_docs(results, DOCS / "performance.md")
    console.print(f"Written to {out}.")


if __name__ == "__main__":
    main()
