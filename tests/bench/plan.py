"""The plan of the benchmark: designs, scenarios, cells, and their order."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

SEED = 20261124
RAMP = 10.0
INTERVAL = 10.0
ALL_END_AT = 30.0
LIMIT = 1_000
WINDOW = 300
BIN = 5
SPREADS = {"short": 60.0, "long": 600.0, "at-once": 0.0}
CAPS = {"short": 200.0, "long": 760.0, "at-once": 120.0}
SIZES = (100, 1_000, 10_000)

PEERS = ("databricks", "dbt-cloud", "airbyte", "http")
DESIGNS = ("ours", *PEERS, "naive", "null")


@dataclass(frozen=True)
class Cell:
    """One measurement: a design with a number of jobs, in ``triggerers`` processes that share a server and a token.

    ``limit`` is ``none``, ``requests`` (1000 per 300 s), or ``items`` (the same, but a bulk call counts as its items).
    ``bare`` omits Airflow's runner, to measure the cost of the triggers alone.
    ``together`` is the number of jobs per trigger.
    """

    design: str
    jobs: int
    kind: str = "short"
    limit: str = "none"
    triggerers: int = 1
    spread: float = 60.0
    bare: bool = False
    together: int = 1

    @property
    def name(self) -> str:
        shared = f", {self.triggerers} triggerers" if self.triggerers > 1 else ""
        shared += f", {self.together:,} in a trigger" if self.together > 1 else ""
        limit = {"none": "", "requests": ", rate limit", "items": ", rate limit by item"}[self.limit]
        return f"{self.design} {self.jobs:,} {self.kind}{limit}{shared}{', bare loop' if self.bare else ''}"

    @property
    def cap(self) -> float:
        """The seconds after which waiting triggers count as unfinished."""
        slack = 300.0 if self.limit == "items" else 0.0
        return CAPS[self.kind] + self.spread - SPREADS[self.kind] + slack

    @property
    def expected(self) -> float:
        """The expected seconds, for the progress bar."""
        if self.design == "airbyte" and self.jobs >= 1_000:
            return 160.0 if self.jobs < 10_000 else self.cap
        if self.limit == "requests" and self.jobs >= 1_000 and self.design != "ours":
            return {"naive": 25.0, "dbt-cloud": 30.0, "databricks": 55.0, "http": 115.0}.get(self.design, 100.0)
        if self.kind == "at-once":
            return ALL_END_AT + 15
        return RAMP + self.spread + (100.0 if self.limit == "items" else 12.0)

    def schedule(self) -> list[tuple[float, float]]:
        """Return when each job starts and finishes, in seconds; the same for every design."""
        if self.kind == "at-once":
            return [(0.0, ALL_END_AT)] * self.jobs
        dice = random.Random(SEED)
        starts = [number * RAMP / self.jobs for number in range(self.jobs)]
        return [(start, start + dice.uniform(0, self.spread)) for start in starts]

    def triggers(self) -> list[tuple[float, float]]:
        """Return when each trigger is created and its last job finishes, in seconds."""
        schedule = self.schedule()
        groups = [schedule[first : first + self.together] for first in range(0, self.jobs, self.together)]
        return [(max(start for start, _ in group), max(finish for _, finish in group)) for group in groups]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Stage:
    """Cells that run at the same time, each with the second at which its clock starts."""

    cells: tuple[tuple[float, Cell], ...]

    @property
    def expected(self) -> float:
        return 10.0 + 2.0 * len(self.cells) + max(offset + cell.expected for offset, cell in self.cells)


def cells() -> list[Cell]:
    """Return every cell of a complete run."""
    found: list[Cell] = []
    for jobs in SIZES:
        found += [Cell(design, jobs) for design in DESIGNS]
        found += [Cell(design, jobs, limit="requests") for design in DESIGNS if design != "null"]
        for design, limits in (("ours", ("none", "requests")), ("naive", ("none", "requests")), ("null", ("none",))):
            found += [Cell(design, jobs, "long", limit, spread=SPREADS["long"]) for limit in limits]
    return [
        *found,
        Cell("ours", 10_000, "long", "requests", triggerers=2, spread=SPREADS["long"]),
        Cell("ours", 1_000, "long", "items", spread=SPREADS["long"]),
        *(Cell(design, 10_000, "at-once", spread=SPREADS["at-once"]) for design in ("ours", "null")),
        Cell("ours", 10_000, together=1_000),
        Cell("ours", 10_000, "at-once", spread=SPREADS["at-once"], together=1_000),
        Cell("ours", 10_000, "long", "requests", spread=SPREADS["long"], together=1_000),
        *(Cell(design, 10_000, bare=True) for design in ("ours", "naive", "null")),
        *(Cell(design, 10_000, "at-once", spread=SPREADS["at-once"], bare=True) for design in ("ours", "null")),
    ]


def is_brief(cell: Cell) -> bool:
    """Whether a cell belongs to the half-hour run: all targets, and the peers at 100 and 10,000 jobs."""
    starves = cell.design == "airbyte" and cell.jobs > 100
    tedious = cell.design == "naive" and cell.jobs == 10_000 and cell.kind == "long"
    return not (starves or tedious or (cell.jobs == 1_000 and cell.kind == "short"))


def with_spread(found: Iterable[Cell], seconds: float) -> list[Cell]:
    """Return the same cells with shorter jobs, for development."""
    return [cell if cell.kind == "at-once" else replace(cell, spread=seconds) for cell in found]


def stages(found: list[Cell]) -> list[Stage]:
    """Group light cells, with clocks that differ so that no two create triggers at the same time; run others alone."""
    light = [cell for cell in found if _light(cell)]
    long = sorted((cell for cell in light if cell.kind == "long"), key=lambda cell: -cell.jobs)
    offsets = [(15.0 * number, cell) for number, cell in enumerate(long)]
    begin = 15.0 * len(long)
    for limit in ("none", "requests"):
        group = [cell for cell in light if cell.kind == "short" and cell.limit == limit]
        offsets += [(begin, cell) for cell in group]
        begin += 110.0 if group else 0.0
    alone = [Stage(((0.0, cell),)) for cell in found if not _light(cell)]
    return [*([Stage(tuple(offsets))] if offsets else []), *alone]


def _light(cell: Cell) -> bool:
    return cell.jobs <= 100 or (cell.kind == "long" and (cell.design != "naive" or cell.jobs <= 1_000))
