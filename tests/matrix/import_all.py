"""`python -m tests.matrix.import_all [with_optional]`: import every module of the wheel.

It fails for a deprecation warning that the wheel causes. With `with_optional`, optional modules must import, too.
"""

from __future__ import annotations

import importlib.util
import pkgutil
import sys
from pathlib import Path

from tests.matrix.deprecations import Deprecations

OPTIONAL = {"airflow_sb_provider.lineage.openlineage": "airflow.providers.openlineage"}


def main(with_optional):
    # Find the package without an import, so that its first import is watched.
    folder = Path(importlib.util.find_spec("airflow_sb_provider").origin).parent
    seen = Deprecations(folder).watch()
    names = [module.name for module in pkgutil.walk_packages([str(folder)], "airflow_sb_provider.")]
    for name in names:
        if with_optional or name not in OPTIONAL:
            importlib.import_module(name)
    print(f"{len(names)} modules of {folder}; {seen.others} deprecations are of others")
    print("\n".join(seen.ours))
    inside = Path(sys.prefix) in folder.parents
    if not inside:
        print(f"{folder} is not installed in {sys.prefix}")
    return 1 if seen.ours or len(names) < 50 or not inside else 0


if __name__ == "__main__":
    sys.exit(main("with_optional" in sys.argv))
