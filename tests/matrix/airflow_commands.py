"""`python -m tests.matrix.airflow_commands RESULTS`: runs Airflow's commands that list the provider."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import sys
from pathlib import Path

from tests.matrix.deprecations import Deprecations

COMMANDS = ("providers list", "providers hooks", "providers links", "plugins")


def main(results):
    seen = Deprecations(Path(importlib.util.find_spec("airflow_sb_provider").origin).parent).watch()
    from airflow.__main__ import main as airflow

    rows = {}
    for command in COMMANDS:
        sys.argv = ["airflow", *command.split(), "--output", "json"]
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            airflow()
        print(f"$ {' '.join(sys.argv)}\n{output.getvalue()}")
        rows[command] = _rows(output.getvalue())
    Path(results).write_text(json.dumps({"rows": rows, "deprecations": seen.ours}))


def _rows(text):
    """Return the JSON list in an output, which in some Airflows also has log lines."""
    start = -1
    while (start := text.find("[", start + 1)) >= 0:
        with contextlib.suppress(ValueError):
            rows, _ = json.JSONDecoder().raw_decode(text[start:])
            if rows and isinstance(rows[0], dict):
                return rows
    raise ValueError(f"no list in {text!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
