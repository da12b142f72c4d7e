"""The plots of docs/performance.md and docs/measurements.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

from tests.bench.plan import BIN, DESIGNS, LIMIT, WINDOW

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

Figures = dict[str, Any]

COLORS = dict(zip(DESIGNS, ("#d62728", "#0072b2", "#e69f00", "#8c564b", "#009e73", "#9467bd", "#999999"), strict=True))


def draw(cells: list[Figures], folder: Path) -> None:
    """Draw every plot that the cells have figures for, as PNG and SVG."""
    found = [cell for cell in cells if "error" not in cell and not cell.get("bare") and cell.get("together", 1) == 1]
    mpl.rcParams.update(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "svg.hashsalt": "bench",
            "axes.axisbelow": True,
        }
    )
    short = [cell for cell in found if cell["kind"] == "short" and cell["limit"] == "none"]
    _by_number(
        short,
        folder / "requests",
        "requests",
        "Requests to see all jobs of up to 60 s end (10 s interval)",
        "requests",
    )
    _by_number(
        short,
        folder / "cpu",
        "cpu_per_10k_job_minutes",
        "CPU seconds for 10,000 jobs to wait one minute",
        "CPU s per 10,000 job-minutes",
    )
    _detection(found, folder / "detection")
    _budget(found, folder / "rate-limit")


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    for kind in ("png", "svg"):
        figure.savefig(path.with_suffix(f".{kind}"), dpi=130, metadata={"Date": None} if kind == "svg" else None)
    pyplot.close(figure)


def _by_number(cells: list[Figures], path: Path, key: str, title: str, unit: str) -> None:
    figure, axes = pyplot.subplots(figsize=(6.4, 4))
    for design in DESIGNS:
        points = sorted((cell["jobs"], cell[key]) for cell in cells if cell["design"] == design and cell[key])
        lost = [(jobs, value) for jobs, value in points if _lost(cells, design, jobs)]
        if points:
            width = 2.6 if design == "ours" else 1.3
            style = "--" if design == "null" else "-"
            axes.plot(*zip(*points, strict=True), style, marker="o", ms=4, lw=width, color=COLORS[design], label=design)
        if lost:
            axes.plot(*zip(*lost, strict=True), "x", ms=9, mew=2, color=COLORS[design])
    axes.set(xscale="log", yscale="log", xlabel="jobs that wait  (x: not all of them were seen to end)", ylabel=unit)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def _lost(cells: list[Figures], design: str, jobs: int) -> bool:
    return any(
        cell["failed"] + cell["unfinished"] for cell in cells if cell["design"] == design and cell["jobs"] == jobs
    )


def _detection(cells: list[Figures], path: Path) -> None:
    limited = [cell for cell in cells if cell["limit"] == "requests" and cell["triggerers"] == 1]
    panels = [("short", 1_000, "1,000 jobs of up to 60 s"), ("long", 10_000, "10,000 jobs of up to 600 s")]
    figure, both = pyplot.subplots(1, 2, figsize=(8.4, 3.8), sharey=True)
    for axes, (kind, jobs, title) in zip(both, panels, strict=True):
        for cell in limited:
            if (cell["kind"], cell["jobs"]) == (kind, jobs):
                _cumulative(axes, cell)
        axes.set(xlabel="seconds after the job's end", xlim=(0, 40), ylim=(-2, 102))
        axes.set_title(title, loc="left", fontsize=9)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.93), fontsize=8)
    both[0].set_ylabel("% of all jobs seen to have ended")
    figure.suptitle(
        "Who still sees jobs end under 1000 requests for 5 minutes", x=0.01, ha="left", fontsize=10, fontweight="bold"
    )
    _save(figure, path)


def _cumulative(axes: Axes, cell: Figures) -> None:
    seen = [(late, percent) for percent, late in enumerate(cell["detection"]) if late is not None]
    late, percents = [0.0, *(late for late, _ in seen)], [0, *(percent for _, percent in seen)]
    design = cell["design"]
    lost = cell["failed"] + cell["unfinished"]
    label = f"{design}: {lost:,} lost" if lost else design
    axes.plot(
        [*late, 1e4], [*percents, percents[-1]], color=COLORS[design], lw=2.6 if design == "ours" else 1.3, label=label
    )


def _budget(cells: list[Figures], path: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(6.8, 3.6))
    for cell in cells:
        if (cell["kind"], cell["jobs"], cell["limit"]) != ("long", 10_000, "requests"):
            continue
        # The server's window begins with the first request.
        seconds, spent, used, window = [cell["timeline"][0][0]], [0], 0, 0
        for second, requests, *_ in cell["timeline"]:
            if (second - cell["timeline"][0][0]) // WINDOW != window:
                window, used = (second - cell["timeline"][0][0]) // WINDOW, 0
            used += requests
            seconds.append(second + BIN)
            spent.append(used)
        two = cell["triggerers"] > 1
        label = f"{cell['design']}, two triggerers" if two else cell["design"]
        label += f": {cell['refused']:,} refused" if cell["refused"] else ""
        axes.plot(seconds, spent, ":" if two else "-", color=COLORS[cell["design"]], lw=2, label=label)
    axes.axhline(LIMIT, color="black", lw=1, ls="--")
    axes.text(axes.get_xlim()[1], LIMIT, "the limit ", ha="right", va="bottom", fontsize=8)
    axes.set(xlabel="seconds", ylabel="requests in the window", ylim=(0, LIMIT * 1.4))
    axes.set_title("Requests in each 5 minutes, 10,000 jobs of up to 600 s", loc="left", fontsize=10, fontweight="bold")
    axes.grid(alpha=0.3)
    if len(axes.lines) > 1:
        axes.legend(frameon=False, ncols=3, loc="upper left", fontsize=8)
    _save(figure, path)
