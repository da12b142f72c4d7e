"""The examples that need a newer Airflow; all others run everywhere."""

from __future__ import annotations

import re
from pathlib import Path

EXAMPLE_DAGS = Path(__file__).parents[2] / "example_dags"
# By name: the first Airflow that can run it, and the reason.
NEEDS: dict[str, tuple[tuple[int, int], str]] = {
    "sevenbridges_asset_watcher": (
        (3, 3),
        "an asset watcher keeps its checkpoint in the asset state store, which is new in Airflow 3.3",
    ),
}


def examples(airflow):
    """Return the paths of the examples that this Airflow can run, and the reasons for the others."""
    paths, reasons = [], []
    for path in sorted(EXAMPLE_DAGS.glob("*.py")):
        first, why = NEEDS.get(path.stem, ((2, 11), ""))
        if airflow >= first:
            paths.append(path)
        else:
            reasons.append(f"{path.stem}: {why}")
    return paths, reasons


def dag_ids(path):
    """Return the ids of the DAGs of an example."""
    return re.findall(r'dag_id="(\w+)"', path.read_text())
