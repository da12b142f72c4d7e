"""Tables, targets, and the machine, for the terminal and for docs/performance.md."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from tests.bench.designs import DESIGNS
from tests.bench.plan import Cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Figures = dict[str, Any]

PACKAGES = (
    "airflow-sb-provider",
    "apache-airflow",
    *(f"apache-airflow-providers-{name}" for name in ("databricks", "dbt-cloud", "airbyte", "http")),
    "aiohttp",
    "httpx",
    "greenback",
    "uvloop",
)
HEADINGS = (
    "design",
    "requests",
    "of ideal",
    "429s",
    "TCP total/open",
    "CPU s",
    "CPU s per 10,000 job-min",
    "KB/job",
    "lag ms p99",
    "max start/steady",
    "detected s p50/p99/max",
    "failed",
    "unfinished",
    "look-ups",
)


def machine_facts() -> Figures:
    """Where and when it is measured."""
    model = (
        re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        if os.path.exists("/proc/cpuinfo")
        else None
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def write_json(results: Figures, path: Path) -> None:
    """Write the results with one cell in a line, so that a change can be read."""
    cells = ",\n".join(json.dumps(_rounded(cell), separators=(",", ":")) for cell in results["cells"])
    path.write_text(f'{{"machine": {json.dumps(_rounded(results["machine"]))},\n"cells": [\n{cells}\n]}}\n')


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def cell_of(figures: Figures) -> Cell:
    """The cell that figures are of."""
    return Cell(**{name: figures[name] for name in Cell.__dataclass_fields__})


def line(figures: Figures) -> str:
    """One line for a cell that has ended."""
    if "error" in figures:
        return f"{cell_of(figures).name}: {figures['error']}"
    detected = figures["detection"]
    lost = figures["failed"] + figures["unfinished"]
    return (
        f"{cell_of(figures).name}: {figures['requests']:,} requests, {figures['cpu']:.1f} CPU s, "
        f"detected p50 {_number(detected[50], 1)} p99 {_number(detected[99], 1)} s"
        + (f", {lost:,} lost" if lost else "")
    )


def rows(cells: list[Figures]) -> Iterator[tuple[str, list[list[str]]]]:
    """The tables: a title, and the rows below `HEADINGS`."""
    groups: dict[str, list[list[str]]] = {}
    for figures in cells:
        if "error" not in figures:
            cell = cell_of(figures)
            shorter = f", up to {cell.spread:g} s" if cell.spread not in (0, 60, 600) else ""
            limit = {
                "none": "no rate limit",
                "requests": "rate limit",
                "items": "rate limit, a bulk call costs its items",
            }
            title = f"{cell.jobs:,} {cell.kind} jobs{shorter}, {limit[cell.limit]}"
            groups.setdefault(title, []).append(_row(cell, figures))
    yield from groups.items()


def _row(cell: Cell, figures: Figures) -> list[str]:
    detected = figures["detection"]
    return [
        cell.design + (f", {cell.triggerers} triggerers" if cell.triggerers > 1 else ""),
        f"{figures['requests']:,}",
        _number(figures["ratio"], 2),
        f"{figures['refused']:,}",
        f"{figures['connections']:,} / {figures['peak_open']:,}",
        _number(figures["cpu"], 2),
        _number(figures["cpu_per_10k_job_minutes"], 1),
        _number(figures["memory_per_job"] / 1024, 1),
        _number(figures["lag_p99"], 0, 1000),
        f"{_number(figures['lag_max_start'], 0, 1000)} / {_number(figures['lag_max_steady'], 0, 1000)}",
        " / ".join(_number(detected[percent], 1 if percent == 100 else 2) for percent in (50, 99, 100)),
        f"{figures['failed']:,}",
        f"{figures['unfinished']:,}",
        f"{figures['look_ups']:,}",
    ]


def _number(value: float | None, digits: int, factor: float = 1) -> str:
    return "–" if value is None else f"{value * factor:,.{digits}f}"


def tables(cells: list[Figures]) -> Iterator[Table]:
    """The tables for the terminal."""
    for title, body in rows(cells):
        table = Table(title=title, title_justify="left", title_style="bold")
        for heading in HEADINGS:
            table.add_column(heading, justify="left" if heading == "design" else "right")
        for row in body:
            table.add_row(*row)
        yield table


@dataclass(frozen=True)
class Target:
    """What should hold: the bound, how to measure it, and how to write it."""

    name: str
    bound: float
    measured: Callable[[Callable[..., Figures]], float]
    digits: int = 2


def _lost(figures: Figures) -> float:
    return float(figures["refused"] + figures["failed"] + figures["unfinished"])


def _detected(figures: Figures, percent: int) -> float:
    value = figures["detection"][percent]
    return float("inf") if value is None else float(value)


BIG: Figures = {"jobs": 10_000, "kind": "short"}
BIG_LONG: Figures = {"jobs": 10_000, "kind": "long", "limit": "requests"}
AT_ONCE: Figures = {"jobs": 10_000, "kind": "at-once"}
ITEMS: Figures = {"jobs": 1_000, "kind": "long", "limit": "items"}
TWO: Figures = {**BIG_LONG, "triggerers": 2}

TARGETS = (
    Target("10,000 short jobs: requests, of ideal", 1.02, lambda of: of("ours", **BIG)["ratio"], 3),
    Target("10,000 long jobs, rate limit: 429s and lost jobs", 0, lambda of: _lost(of("ours", **BIG_LONG)), 0),
    Target("10,000 long jobs, rate limit: detected p50, s", 7, lambda of: _detected(of("ours", **BIG_LONG), 50)),
    Target("10,000 long jobs, rate limit: detected p99, s", 25, lambda of: _detected(of("ours", **BIG_LONG), 99)),
    Target(
        "10,000 short jobs: CPU per job-minute, of naive's",
        1 / 8,
        lambda of: of("ours", **BIG)["cpu_per_10k_job_minutes"] / of("naive", **BIG)["cpu_per_10k_job_minutes"],
        3,
    ),
    Target("10,000 short jobs: loop lag p99, ms", 20, lambda of: of("ours", **BIG)["lag_p99"] * 1000, 0),
    Target(
        "10,000 short jobs: loop lag max above null's, ms",
        60,
        lambda of: (of("ours", **BIG)["lag_max"] - of("null", **BIG)["lag_max"]) * 1000,
        0,
    ),
    Target("10,000 at once: loop lag p99, ms", 20, lambda of: of("ours", **AT_ONCE)["lag_p99"] * 1000, 0),
    Target(
        "10,000 at once: loop lag max above null's, ms",
        60,
        lambda of: (of("ours", **AT_ONCE)["lag_max"] - of("null", **AT_ONCE)["lag_max"]) * 1000,
        0,
    ),
    Target(
        "10,000 short jobs: memory per waiting job, KB", 12, lambda of: of("ours", **BIG)["memory_per_job"] / 1024, 1
    ),
    Target("10,000 short jobs: detected p50, s", 5.2, lambda of: _detected(of("ours", **BIG), 50)),
    Target("10,000 short jobs: detected p99, s", 10.2, lambda of: _detected(of("ours", **BIG), 99)),
    Target("two triggerers, one token: 429s and lost jobs", 0, lambda of: _lost(of("ours", **TWO)), 0),
    Target("two triggerers, one token: detected p50, s", 7, lambda of: _detected(of("ours", **TWO), 50)),
    Target("two triggerers, one token: detected p99, s", 25, lambda of: _detected(of("ours", **TWO), 99)),
    Target("1,000 long jobs, limit by item: 429s and lost jobs", 0, lambda of: _lost(of("ours", **ITEMS)), 0),
)


def targets(cells: list[Figures]) -> list[tuple[str, str, str, str]]:
    """Each target with its bound, what was measured, and whether it is met."""

    def of(design: str, **wanted: Any) -> Figures:
        cell = {"limit": "none", "triggerers": 1, **wanted, "design": design}
        return next(
            figures
            for figures in cells
            if "error" not in figures and all(figures[name] == value for name, value in cell.items())
        )

    found = []
    for target in TARGETS:
        bound = f"at most {target.bound:g}"
        try:
            value = target.measured(of)
        except StopIteration:
            found.append((target.name, bound, "–", "not run"))
            continue
        found.append((target.name, bound, _number(value, target.digits), "met" if value <= target.bound else "NOT met"))
    return found


def targets_table(cells: list[Figures]) -> Table:
    """The targets for the terminal."""
    table = Table(title="Targets", title_justify="left", title_style="bold")
    for heading in ("target", "bound", "measured", ""):
        table.add_column(heading)
    colours = {"met": "green", "NOT met": "bold red", "not run": "dim"}
    for *texts, verdict in targets(cells):
        table.add_row(*texts, f"[{colours[verdict]}]{verdict}[/]")
    return table


def _markdown(headings: tuple[str, ...], body: list[Any]) -> str:
    lines = [headings, ["---"] * len(headings), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_docs(results: Figures, path: Path) -> None:
    """Put the figures between the marks of the page."""
    where = results["machine"]
    versions = ", ".join(
        f"{name.removeprefix('apache-airflow-providers-')} {number}" for name, number in where["versions"].items()
    )
    machine = f"{where['cpu']}, {where['cores']} cores, {where['system']}, Python {where['python']}"
    took = f"{len(results['cells'])} cells in {where.get('seconds', 0) / 60:.0f} minutes"
    parts = [
        f"Measured on {where['date']}: {machine}; {versions}. {took}.",
        "### Targets",
        _markdown(("target", "bound", "measured", "verdict"), targets(results["cells"])),
    ]
    for title, body in rows(results["cells"]):
        parts += [f"### {title}", _markdown(HEADINGS, body)]
    designs = [(name, design.title) for name, design in DESIGNS.items()]
    parts += ["### Names", _markdown(("design", "is"), designs)]
    text = "\n\n".join(parts)
    page = path.read_text()
    path.write_text(
        re.sub(r"(?s)(?<=<!-- figures -->\n).*(?=<!-- end of figures -->)", lambda _: f"\n{text}\n\n", page)
    )
