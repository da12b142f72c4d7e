"""Draw how the cost per file depends on the number of files: ``python -m tests.bench.growth_plot growth.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

COLORS = {"bulk": "#0072b2", "client": "#d62728"}
ROLES = ("workers", "api-server", "database")


def draw(cells: list[dict[str, Any]], path: Path) -> None:
    """Draw the CPU time per file of the measured ways, as SVG."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "bench"})
    figure, axes = pyplot.subplots(figsize=(6, 3))
    for name, color in COLORS.items():
        points = sorted(
            (each["files"], 1000 * sum(each["cpu"][role] - each["cpu_idle"][role] for role in ROLES) / each["files"])
            for each in cells
            if each["name"] == name
        )
        axes.plot(*zip(*points, strict=True), marker="o", color=color, label=name)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("files in one task")
    axes.set_ylabel("CPU ms per file")
    axes.set_title("CPU of workers, API server and database for one file", loc="left")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    figures = Path(sys.argv[1])
    draw(json.loads(figures.read_text())["cells"], figures.with_suffix(".svg"))
    print(f"Drawn to {figures.with_suffix('.svg')}")
