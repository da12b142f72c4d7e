"""What an Airflow must have for an example to run; every other example runs everywhere."""

from __future__ import annotations

import re
from pathlib import Path

EXAMPLE_DAGS = Path(__file__).parents[2] / "example_dags"
# By name: the first Airflow that can run it, and why.
NEEDS: dict[str, tuple[tuple[int, int], str]] = {
    "sevenbridges_asset_watcher": ((3, 3), "an asset watcher keeps its place in the asset's store, which 3.3 brought"),
}


def examples(airflow):
    """The paths of the examples that this Airflow can run, and for each other one the reason."""
    here, lacks = [], []
    for path in sorted(EXAMPLE_DAGS.glob("*.py")):
        first, why = NEEDS.get(path.stem, ((2, 11), ""))
        if airflow >= first:
            here.append(path)
        else:
            lacks.append(f"{path.stem}: {why}")
    return here, lacks


def dag_ids(path):
    """The DAGs of an example."""
    return re.findall(r'dag_id="(\w+)"', path.read_text())
