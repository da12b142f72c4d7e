"""Tables, targets, and the machine, for the terminal and for docs/measurements.md."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tests.bench.designs import DESIGNS
from tests.bench.plan import Cell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Figures = dict[str, Any]
Rows = list[tuple[str, ...]]

PEERS = [f"apache-airflow-providers-{name}" for name in ("databricks", "dbt-cloud", "airbyte", "http")]
PACKAGES = ["airflow-sb-provider", "apache-airflow", *PEERS, "aiohttp", "httpx", "greenback", "uvloop"]
LIMITS = {"none": "no rate limit", "requests": "rate limit", "items": "rate limit, bulk calls charged per id"}


def machine_facts() -> Figures:
    """Return the machine and the date of the measurement."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def write_json(results: Figures, path: Path) -> None:
    """Write the results with one cell per line, so that diffs are readable."""
    cells = ",\n".join(json.dumps(_rounded(cell), separators=(",", ":")) for cell in results["cells"])
    path.write_text(f'{{"machine": {json.dumps(_rounded(results["machine"]))},\n"cells": [\n{cells}\n]}}\n')


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def cell_of(figures: Figures) -> Cell:
    """Return the cell of these figures."""
    return Cell(**{name: figures[name] for name in Cell.__dataclass_fields__ if name in figures})


def _number(value: float | None, digits: int = 0, factor: float = 1) -> str:
    return "–" if value is None else f"{value * factor:,.{digits}f}"


COLUMNS: dict[str, Callable[[Figures], str]] = {
    "design": lambda of: (
        of["design"]
        + (f" x {of['triggerers']}" if of["triggerers"] > 1 else "")
        + (f", {of['together']:,} in a trigger" if of.get("together", 1) > 1 else "")
    ),
    "requests": lambda of: _number(of["requests"]),
    "vs. ideal": lambda of: _number(of["ratio"], 2),
    "429s": lambda of: _number(of["refused"]),
    "CPU s": lambda of: _number(of["cpu"], 2),
    "CPU*": lambda of: _number(of["cpu_per_10k_job_minutes"], 1),
    "KB/job": lambda of: _number(of["memory_per_job"], 1, 1 / 1024),
    "lag p99": lambda of: _number(of["lag_p99"], 0, 1000),
    "lag max": lambda of: _number(of["lag_max"], 0, 1000),
    "no GC": lambda of: _number(of["lag_max_but_gc"], 0, 1000),
    "p50": lambda of: _number(of["detection"][50], 2),
    "p99": lambda of: _number(of["detection"][99], 2),
    "failed": lambda of: _number(of["failed"]),
    "unfinished": lambda of: _number(of["unfinished"]),
}
LEGEND = (
    "vs. ideal: requests, divided by one for each hundred waiting jobs per interval. CPU*: CPU s per 10,000 "
    "job-minutes. KB/job: memory per waiting job. lag: event-loop lag in ms; no GC: its maximum without garbage "
    "collection. p50, p99: seconds from a job's end to its trigger's event, over all jobs; – means never."
)


def line(figures: Figures) -> str:
    """Return one line for a finished cell."""
    name = cell_of(figures).name
    if "error" in figures:
        return f"{name}: {figures['error']}"
    shown = {heading: COLUMNS[heading](figures) for heading in ("requests", "CPU s", "p50", "failed", "unfinished")}
    return f"{name}: " + ", ".join(f"{heading} {value}" for heading, value in shown.items())


def rows(cells: list[Figures]) -> dict[str, Rows]:
    """Return the rows of each table by its title; the columns are `COLUMNS`."""
    groups: dict[str, Rows] = {}
    for figures in cells:
        if "error" not in figures:
            cell = cell_of(figures)
            length = f", up to {cell.spread:g} s" if cell.spread else ""
            where = ", bare event loop" if cell.bare else ""
            title = f"{cell.jobs:,} {cell.kind} jobs{length}, {LIMITS[cell.limit]}{where}"
            groups.setdefault(title, []).append(tuple(show(figures) for show in COLUMNS.values()))
    return groups


def table(title: str, headings: Sequence[str], body: Rows) -> Table:
    """Return a table for the terminal."""
    found = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        right = title != "Targets" and number > 0
        found.add_column(heading, justify="right" if right else "left", no_wrap=True)
    colors = {"met": "green", "NOT met": "bold red"}
    for row in body:
        found.add_row(*row, style=colors.get(row[-1]))
    return found


def _lost(figures: Figures) -> float:
    return float(figures["refused"] + figures["failed"] + figures["unfinished"])


def _seen(percent: int) -> Callable[[Figures], float]:
    return lambda of: float("inf") if of["detection"][percent] is None else float(of["detection"][percent])


def _lag_p99(figures: Figures) -> float:
    return float(figures["lag_p99"]) * 1000


def _to_naive(ours: Figures, naive: Figures) -> float:
    return float(ours["cpu_per_10k_job_minutes"] / naive["cpu_per_10k_job_minutes"])


def _net_to_naive(ours: Figures, naive: Figures, null: Figures) -> float:
    cpu, floor = "cpu_per_10k_job_minutes", null["cpu_per_10k_job_minutes"]
    return float((ours[cpu] - floor) / (naive[cpu] - floor))


def _p99_above_null(ours: Figures, null: Figures) -> float:
    return _lag_p99(ours) - _lag_p99(null)


def _above_null(ours: Figures, null: Figures) -> float:
    return float(ours["lag_max"] - null["lag_max"]) * 1000


def _ratio(figures: Figures) -> float:
    return float(figures["ratio"])


def _memory(figures: Figures) -> float:
    return float(figures["memory_per_job"]) / 1024


Target = tuple[str, str, float, int, "Callable[..., float]", tuple[Cell, ...]]
BIG, NAIVE, NULL = (Cell(design, 10_000) for design in ("ours", "naive", "null"))
AT_ONCE, NULL_AT_ONCE = (Cell(design, 10_000, "at-once", spread=0) for design in ("ours", "null"))
LIMITED = Cell("ours", 10_000, "long", "requests", spread=600)
ITEMS = Cell("ours", 1_000, "long", "items", spread=600)


def _load(form: str, *, ours: dict[str, Any], others: dict[str, Any]) -> list[Target]:
    """The cost of waiting, with the same bounds for each way of waiting."""
    big, at_once = replace(BIG, **ours), replace(AT_ONCE, **ours)
    naive, null, null_at_once = (replace(cell, **others) for cell in (NAIVE, NULL, NULL_AT_ONCE))
    short, ending_together = f"10,000 short{form}", f"10,000 ending together{form}"
    return [
        ("requests, vs. ideal", short, 1.02, 3, _ratio, (big,)),
        ("CPU per job-minute, vs. naive", short, 1 / 8, 3, _to_naive, (big, naive)),
        ("the same, both above null", short, 1 / 8, 3, _net_to_naive, (big, naive, null)),
        ("loop lag p99, ms", short, 20, 0, _lag_p99, (big,)),
        ("the same, above null", short, 20, 0, _p99_above_null, (big, null)),
        ("loop lag max above null, ms", short, 60, 0, _above_null, (big, null)),
        ("loop lag p99, ms", ending_together, 20, 0, _lag_p99, (at_once,)),
        ("the same, above null", ending_together, 20, 0, _p99_above_null, (at_once, null_at_once)),
        ("loop lag max above null, ms", ending_together, 60, 0, _above_null, (at_once, null_at_once)),
        ("memory per waiting job, KB", short, 12, 1, _memory, (big,)),
        ("detection p50, s", short, 5.2, 2, _seen(50), (big,)),
        ("detection p99, s", short, 10.2, 2, _seen(99), (big,)),
    ]


def _limited(jobs: str, cell: Cell) -> list[Target]:
    """The targets with a rate limit."""
    return [
        ("429s and lost jobs", jobs, 0, 0, _lost, (cell,)),
        ("detection p50, s", jobs, 7, 2, _seen(50), (cell,)),
        ("detection p99, s", jobs, 25, 2, _seen(99), (cell,)),
    ]


MANY = {"together": 1_000}
BARE = {"bare": True}
TARGETS = [
    *_load(", in 10 triggers", ours=MANY, others={}),
    *_limited("10,000 long, rate limit, in 10 triggers", replace(LIMITED, **MANY)),
    *_load("", ours={}, others={}),
    *_limited("10,000 long, rate limit", LIMITED),
    *_limited("the same, two triggerers, one token", replace(LIMITED, triggerers=2)),
    *_load(", bare event loop", ours=BARE, others=BARE),
    ("429s and lost jobs", "1,000 long, bulk calls charged per id", 0, 0, _lost, (ITEMS,)),
]
TARGET_HEADINGS = ("target", "jobs", "at most", "measured", "result")


def targets(cells: list[Figures]) -> Rows:
    """Return each target with its bound, the measured value, and whether it is met."""
    measured = {cell_of(figures): figures for figures in cells if "error" not in figures}
    found: Rows = []
    for name, jobs, bound, digits, figure, wanted in TARGETS:
        if all(cell in measured for cell in wanted):
            value = figure(*(measured[cell] for cell in wanted))
            found.append((name, jobs, f"{bound:g}", _number(value, digits), "met" if value <= bound else "NOT met"))
        else:
            found.append((name, jobs, f"{bound:g}", "–", "not run"))
    return found


def _markdown(headings: Sequence[str], body: Rows) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *body))


def write_docs(results: Figures, path: Path) -> None:
    """Write the figures between the marks of the page."""
    where = results["machine"]
    versions = ", ".join(
        f"{name.removeprefix('apache-airflow-providers-')} {of}" for name, of in where["versions"].items()
    )
    machine = f"{where['cpu']}, {where['cores']} cores, {where['system']}, Python {where['python']}"
    took = f"{len(results['cells'])} cells in {where['seconds'] / 60:.0f} minutes"
    parts = [f"{where['date']}; {machine}; {versions}; {took}.", "### Targets"]
    parts += [_markdown(TARGET_HEADINGS, targets(results["cells"])), "### Cells", LEGEND.replace("*", "\\*")]
    for title, body in rows(results["cells"]).items():
        parts += [f"**{title}**", _markdown([heading.replace("*", "\\*") for heading in COLUMNS], body)]
    parts += ["### Designs", _markdown(("name", "trigger"), [(name, design.title) for name, design in DESIGNS.items()])]
    marked = r"(?s)(?<=<!-- figures -->\n).*(?=<!-- end of figures -->)"
    path.write_text(re.sub(marked, lambda _: "\n" + "\n\n".join(parts) + "\n\n", path.read_text()))
