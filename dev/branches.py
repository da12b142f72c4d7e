"""Print the branch coverage of a coverage report, and fail below 95 %."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FLOOR = 95.0


def main(report: Path) -> int:
    """Return 0 if enough branches are covered."""
    totals = json.loads(report.read_text())["totals"]
    share = 100 * totals["covered_branches"] / max(1, totals["num_branches"])
    print(f"branches covered: {totals['covered_branches']} of {totals['num_branches']} ({share:.1f} %)")
    return 0 if share >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
