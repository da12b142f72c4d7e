"""Tables, targets, and the machine, for the terminal and for docs/performance.md."""

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
LIMITS = {"none": "no rate limit", "requests": "rate limit", "items": "rate limit, a bulk call costs its items"}


def machine_facts() -> Figures:
    """Where and when it is measured."""
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
    "of ideal": lambda of: _number(of["ratio"], 2),
    "ids/request": lambda of: _number(of["id_asks"] / of["requests"] if of["requests"] else None, 1),
    "429s": lambda of: _number(of["refused"]),
    "TCP": lambda of: _number(of["connections"]),
    "open": lambda of: _number(of["peak_open"]),
    "CPU s": lambda of: _number(of["cpu"], 2),
    "CPU*": lambda of: _number(of["cpu_per_10k_job_minutes"], 1),
    "KB/job": lambda of: _number(of["memory_per_job"], 1, 1 / 1024),
    "lag p99": lambda of: _number(of["lag_p99"], 0, 1000),
    "max start": lambda of: _number(of["lag_max_start"], 0, 1000),
    "steady": lambda of: _number(of["lag_max_steady"], 0, 1000),
    "but GC": lambda of: _number(of["lag_max_but_gc"], 0, 1000),
    "seen p50": lambda of: _number(of["detection"][50], 2),
    "p99": lambda of: _number(of["detection"][99], 2),
    "max": lambda of: _number(of["detection"][100], 1),
    "failed": lambda of: _number(of["failed"]),
    "unfinished": lambda of: _number(of["unfinished"]),
    "look-ups": lambda of: _number(of["look_ups"]),
}
WIDE = ("ids/request", "open", "but GC", "max", "look-ups")
"""What is in docs/performance.md only."""
LEGEND = (
    "of ideal: requests to one for each hundred waiting jobs an interval. TCP: connections; open: at most at once. "
    "CPU*: CPU s per 10,000 job-minutes. KB/job: memory per waiting job. lag: of the event loop, ms: p99, max "
    "while triggers are created, max afterwards; but GC: max apart from garbage collection. seen: s from a job's end "
    "to its trigger's event, of all jobs; – is never. look-ups: of the Airflow connection."
)


def line(figures: Figures) -> str:
    """One line for a cell that has ended."""
    name = cell_of(figures).name
    if "error" in figures:
        return f"{name}: {figures['error']}"
    shown = {
        heading: COLUMNS[heading](figures) for heading in ("requests", "CPU s", "seen p50", "failed", "unfinished")
    }
    return f"{name}: " + ", ".join(f"{heading} {value}" for heading, value in shown.items())


def rows(cells: list[Figures]) -> dict[str, Rows]:
    """The tables: by title, the rows below `COLUMNS`."""
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
    """A table for the terminal."""
    found = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    shown = [number for number, heading in enumerate(headings) if heading not in WIDE]
    for number in shown:
        right = title != "Targets" and number > 0
        found.add_column(headings[number], justify="right" if right else "left", no_wrap=True)
    colours = {"met": "green", "NOT met": "bold red"}
    for row in body:
        found.add_row(*(row[number] for number in shown), style=colours.get(row[-1]))
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


BIG = Cell("ours", 10_000)
LIMITED = Cell("ours", 10_000, "long", "requests", spread=600)
TWO = Cell("ours", 10_000, "long", "requests", 2, spread=600)
ITEMS = Cell("ours", 1_000, "long", "items", spread=600)
AT_ONCE = Cell("ours", 10_000, "at-once", spread=0)
MANY, MANY_AT_ONCE, MANY_LIMITED = (replace(cell, together=1_000) for cell in (BIG, AT_ONCE, LIMITED))
NAIVE, NULL, NULL_AT_ONCE = Cell("naive", 10_000), Cell("null", 10_000), replace(AT_ONCE, design="null")
BARE, BARE_NAIVE, BARE_NULL = (replace(cell, bare=True) for cell in (BIG, NAIVE, NULL))
BARE_AT_ONCE, BARE_FLOOR = replace(AT_ONCE, bare=True), replace(NULL_AT_ONCE, bare=True)
TARGETS: list[tuple[str, str, float, int, Callable[..., float], tuple[Cell, ...]]] = [
    ("requests, of ideal", "10,000 short", 1.02, 3, lambda of: float(of["ratio"]), (BIG,)),
    ("CPU per job-minute, of naive's", "10,000 short", 1 / 8, 3, _to_naive, (BIG, NAIVE)),
    ("the same, both above null's", "10,000 short", 1 / 8, 3, _net_to_naive, (BIG, NAIVE, NULL)),
    ("loop lag p99, ms", "10,000 short", 20, 0, _lag_p99, (BIG,)),
    ("the same, above null's", "10,000 short", 20, 0, _p99_above_null, (BIG, NULL)),
    ("loop lag max above null's, ms", "10,000 short", 60, 0, _above_null, (BIG, NULL)),
    ("loop lag p99, ms", "10,000 at once", 20, 0, _lag_p99, (AT_ONCE,)),
    ("the same, above null's", "10,000 at once", 20, 0, _p99_above_null, (AT_ONCE, NULL_AT_ONCE)),
    ("loop lag max above null's, ms", "10,000 at once", 60, 0, _above_null, (AT_ONCE, NULL_AT_ONCE)),
    ("memory per waiting job, KB", "10,000 short", 12, 1, lambda of: of["memory_per_job"] / 1024, (BIG,)),
    ("CPU per job-minute, of naive's", "10,000 short, bare loop", 1 / 8, 3, _to_naive, (BARE, BARE_NAIVE)),
    ("loop lag p99, ms", "10,000 short, bare loop", 20, 0, _lag_p99, (BARE,)),
    ("loop lag max above null's, ms", "10,000 short, bare loop", 60, 0, _above_null, (BARE, BARE_NULL)),
    ("loop lag p99, ms", "10,000 at once, bare loop", 20, 0, _lag_p99, (BARE_AT_ONCE,)),
    (
        "loop lag max above null's, ms",
        "10,000 at once, bare loop",
        60,
        0,
        _above_null,
        (BARE_AT_ONCE, BARE_FLOOR),
    ),
    ("memory per waiting job, KB", "10,000 short, bare loop", 12, 1, lambda of: of["memory_per_job"] / 1024, (BARE,)),
    ("requests, of ideal", "10,000 short, in 10 triggers", 1.02, 3, lambda of: float(of["ratio"]), (MANY,)),
    ("CPU per job-minute, of naive's", "10,000 short, in 10 triggers", 1 / 8, 3, _to_naive, (MANY, NAIVE)),
    ("loop lag p99, ms", "10,000 short, in 10 triggers", 20, 0, _lag_p99, (MANY,)),
    ("loop lag max above null's, ms", "10,000 short, in 10 triggers", 60, 0, _above_null, (MANY, NULL)),
    ("loop lag p99, ms", "10,000 at once, in 10 triggers", 20, 0, _lag_p99, (MANY_AT_ONCE,)),
    (
        "loop lag max above null's, ms",
        "10,000 at once, in 10 triggers",
        60,
        0,
        _above_null,
        (MANY_AT_ONCE, NULL_AT_ONCE),
    ),
    (
        "memory per waiting job, KB",
        "10,000 short, in 10 triggers",
        12,
        1,
        lambda of: of["memory_per_job"] / 1024,
        (MANY,),
    ),
    ("seen p50, s", "10,000 short, in 10 triggers", 5.2, 2, _seen(50), (MANY,)),
    ("seen p99, s", "10,000 short, in 10 triggers", 10.2, 2, _seen(99), (MANY,)),
    ("429s and lost jobs", "10,000 long, rate limit, in 10 triggers", 0, 0, _lost, (MANY_LIMITED,)),
    ("seen p50, s", "10,000 long, rate limit, in 10 triggers", 7, 2, _seen(50), (MANY_LIMITED,)),
    ("seen p99, s", "10,000 long, rate limit, in 10 triggers", 25, 2, _seen(99), (MANY_LIMITED,)),
    ("seen p50, s", "10,000 short", 5.2, 2, _seen(50), (BIG,)),
    ("seen p99, s", "10,000 short", 10.2, 2, _seen(99), (BIG,)),
    ("429s and lost jobs", "10,000 long, rate limit", 0, 0, _lost, (LIMITED,)),
    ("seen p50, s", "10,000 long, rate limit", 7, 2, _seen(50), (LIMITED,)),
    ("seen p99, s", "10,000 long, rate limit", 25, 2, _seen(99), (LIMITED,)),
    ("429s and lost jobs", "the same, two triggerers, one token", 0, 0, _lost, (TWO,)),
    ("seen p50, s", "the same, two triggerers, one token", 7, 2, _seen(50), (TWO,)),
    ("seen p99, s", "the same, two triggerers, one token", 25, 2, _seen(99), (TWO,)),
    ("429s and lost jobs", "1,000 long, a bulk call costs its items", 0, 0, _lost, (ITEMS,)),
]
TARGET_HEADINGS = ("what", "jobs", "at most", "measured", "")


def targets(cells: list[Figures]) -> Rows:
    """Each target with its bound, what was measured, and whether it is met."""
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
    """Put the figures between the marks of the page."""
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
    parts += ["### Designs", _markdown(("name", "is"), [(name, design.title) for name, design in DESIGNS.items()])]
    marked = r"(?s)(?<=<!-- figures -->\n).*(?=<!-- end of figures -->)"
    path.write_text(re.sub(marked, lambda _: "\n" + "\n\n".join(parts) + "\n\n", path.read_text()))
