"""`make bench`: run the cells, print the tables and the targets, and write JSON and plots."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench import plan, plots, report
from tests.bench.designs import environment
from tests.bench.measures import measure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.bench.plan import Cell, Stage

DOCS = Path("docs")
COMPLETE, PARTIAL = DOCS / "performance", Path("build/bench")
GRACE = 180.0
WIDTH = 150


class Child:
    """A process that exchanges lines with this one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def write_line(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n".encode())

    async def read_line(self, seconds: float = GRACE) -> str:
        assert self._process.stdout
        line = await asyncio.wait_for(self._process.stdout.readline(), seconds)
        if not line:
            raise EOFError("a process ended without an answer")
        return line.decode()


@asynccontextmanager
async def child(module: str, arguments: dict[str, Any], home: Path, **variables: str) -> AsyncIterator[Child]:
    """Start a process, and stop it at the end of the block."""
    # The caller's Airflow settings and proxies must not apply.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    clean = {name: value for name, value in clean.items() if not name.lower().endswith("_proxy")}
    with (home / "errors.log").open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"tests.bench.{module}", json.dumps(arguments)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={**clean, "AIRFLOW_HOME": str(home), **variables},
            limit=2**26,
        )
    try:
        yield Child(process)
    finally:
        try:
            await asyncio.wait_for(process.wait(), 2)
        except TimeoutError:
            process.kill()
            await process.wait()


async def run(cell: Cell, offset: float, all_ready: asyncio.Barrier) -> dict[str, Any]:
    """Run one cell in separate processes."""
    passed = False
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        try:
            server = await stack.enter_async_context(child("server", cell.as_json(), home))
            variables = environment(cell.design, int(await server.read_line()))
            triggerers: list[Child] = []
            for share in range(cell.triggerers):
                arguments = {"cell": cell.as_json(), "share": share}
                triggerers.append(await stack.enter_async_context(child("triggerer", arguments, home, **variables)))
                await triggerers[-1].read_line()
            passed = True
            await all_ready.wait()
            began = time.time() + 1 + offset
            server.write_line(f"start {began}")
            for triggerer in triggerers:
                triggerer.write_line(str(began))
            reports = [json.loads(await triggerer.read_line(offset + cell.cap + GRACE)) for triggerer in triggerers]
            server.write_line("stop")
            return measure(cell, json.loads(await server.read_line()), reports)
        except (EOFError, TimeoutError) as error:
            if not passed:
                await all_ready.wait()
            return {**cell.as_json(), "error": f"{error!r}\n{(home / 'errors.log').read_text()[-2000:]}"}


async def run_stage(stage: Stage) -> list[dict[str, Any]]:
    """Run the cells of a stage; the clocks start when every process is ready."""
    barrier = asyncio.Barrier(len(stage.cells))
    return list(await asyncio.gather(*(run(cell, offset, barrier) for offset, cell in stage.cells)))


async def run_all(stages: list[Stage], console: Console, out: Path) -> dict[str, Any]:
    """Run the stages one after the other, and write the results after each."""
    out.mkdir(parents=True, exist_ok=True)
    began, left = time.time(), sum(stage.expected for stage in stages)
    results: dict[str, Any] = {"machine": report.machine_facts(), "cells": []}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("ends about {task.fields[end]}"), console=console) as progress:
        bar = progress.add_task("", total=len(stages), end="")
        for stage in stages:
            names = stage.cells[0][1].name if len(stage.cells) == 1 else f"{len(stage.cells)} light cells together"
            end = time.strftime("%H:%M", time.localtime(time.time() + left))
            progress.update(bar, description=names, end=end)
            measured = await run_stage(stage)
            for cell in measured:
                console.print(report.line(cell), highlight=False)
            results["cells"] += measured
            results["machine"]["seconds"] = time.time() - began
            report.write_json(results, out / "results.json")
            left -= stage.expected
            progress.advance(bar)
    return results


def main() -> None:
    """Parse the arguments, measure, and print the results."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", metavar="DESIGNS", help="such as ours,null", default=",".join(plan.DESIGNS))
    parser.add_argument("--n", metavar="JOBS", help="such as 100,1000", default=",".join(map(str, plan.SIZES)))
    for kind in plan.SPREADS:
        parser.add_argument(f"--{kind}", action="append_const", dest="kinds", const=kind, help=f"{kind} jobs")
    parser.add_argument("--bare", action="store_true", help="only on a bare event loop, without Airflow's runner")
    parser.add_argument("--limit", choices=report.LIMITS, help="only with this rate limit")
    parser.add_argument("--seconds", type=float, help="for development: jobs last up to so long")
    parser.add_argument("--brief", action="store_true", help="half an hour: not a thousand short jobs, nor the slowest")
    parser.add_argument("--list", action="store_true", help="list the cells and the expected time, and run nothing")
    parser.add_argument("--render", type=Path, metavar="JSON", help="only tables and plots, of an earlier complete run")
    options = parser.parse_args()
    sizes = {int(size) for size in options.n.split(",")}
    cells = [
        cell
        for cell in plan.cells()
        if cell.design in options.only.split(",")
        and cell.jobs in sizes
        and cell.kind in (options.kinds or plan.SPREADS)
        and options.limit in (None, cell.limit)
        and (cell.bare or not options.bare)
        and (plan.is_brief(cell) or not options.brief)
    ]
    whole = len(cells) == len(plan.cells()) and not options.seconds
    stages = plan.stages(plan.with_spread(cells, options.seconds) if options.seconds else cells)
    console = Console()
    console.width = max(console.width, WIDTH)
    if options.list:
        for stage in stages:
            console.print(f"{stage.expected:6.0f} s  " + "; ".join(cell.name for _, cell in stage.cells))
        console.print(f"{sum(stage.expected for stage in stages) / 60:6.0f} min, {len(cells)} cells")
        return
    out = COMPLETE if whole or options.render else PARTIAL / time.strftime("%Y%m%d-%H%M%S")
    earlier = json.loads(options.render.read_text()) if options.render else None
    results = earlier or asyncio.run(run_all(stages, console, out))
    out.mkdir(parents=True, exist_ok=True)
    for title, body in report.rows(results["cells"]).items():
        console.print(report.table(title, tuple(report.COLUMNS), body))
    console.print(report.LEGEND, highlight=False)
    console.print(report.table("Targets", report.TARGET_HEADINGS, report.targets(results["cells"])))
    plots.draw(results["cells"], out)
    if out == COMPLETE:
        report.write_docs(results, DOCS / "measurements.md")
    console.print(f"Written to {out}.")


if __name__ == "__main__":
    main()
