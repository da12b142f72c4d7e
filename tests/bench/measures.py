"""Calculates a cell's figures from the reports of its server and triggerers."""

from __future__ import annotations

import bisect
import math
from typing import TYPE_CHECKING, Any

from tests.bench.plan import INTERVAL

if TYPE_CHECKING:
    from tests.bench.plan import Cell

BULK = 100
BEAT = 0.05


def measure(cell: Cell, server: dict[str, Any], triggerers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of a cell; times in seconds, None if it never happened."""
    reported_ends = server.pop("reported_ends")
    if cell.together > 1:
        triggerers = [_by_job(report, reported_ends, cell.together) for report in triggerers]
    finishes = [finish for _, finish in cell.schedule()]
    late = sorted(
        max(0.0, moment - finishes[int(number)]) for report in triggerers for number, moment in report["fired"].items()
    )
    failed = sum(len(report["failed"]) for report in triggerers)
    waited = sum(_waited(report) for report in triggerers)
    cpu = sum(report["cpu"] for report in triggerers)
    ideal = sum(_ideal(report, server["first_request"]) for report in triggerers)
    lag = [beat for report in triggerers for beat in report["lag"]]
    settled = max(max(report["created"].values(), default=0.0) for report in triggerers) + 1
    return {
        **cell.as_json(),
        **server,
        "server_cpu": server["cpu"],
        "cpu": cpu,
        "cpu_per_10k_job_minutes": cpu / waited * 600_000 if waited else None,
        "ideal_requests": ideal,
        "ratio": server["requests"] / ideal if ideal else None,
        "memory_per_job": sum(
            (report["rss_at_peak"] - report["rss_before"]) / max(1, report["peak_waiting"]) for report in triggerers
        )
        / len(triggerers),
        "peak_waiting": sum(report["peak_waiting"] for report in triggerers),
        "lag_p99": _corrected_p99([late for _, late, _ in lag]),
        "lag_max": max((late for _, late, _ in lag), default=None),
        "lag_max_start": max((late for at, late, _ in lag if at <= settled), default=None),
        "lag_max_steady": max((late for at, late, _ in lag if at > settled), default=None),
        "lag_max_but_gc": max((late - collected for _, late, collected in lag), default=None),
        "gc": sum(collected for *_, collected in lag),
        "gc_max_cpu": max(report["longest_collection"] for report in triggerers),
        "detection": [_percentile(late, cell.jobs, percent) for percent in range(101)],
        "failed": failed,
        "unfinished": cell.jobs - failed - len(late),
        "reasons": [reason for report in triggerers for reason in report["reasons"]][:3],
        "look_ups": sum(report["look_ups"] for report in triggerers),
        "log_lines": sum(report["log_lines"] for report in triggerers),
        "ended": max(report["ended"] for report in triggerers),
    }


def _by_job(report: dict[str, Any], reported_ends: dict[str, float], together: int) -> dict[str, Any]:
    """Convert the report of triggers that wait for many jobs, as if each job had its own trigger.

    A job's end is detected when the server has reported it, provided that the trigger has sent its event.
    """

    def jobs(trigger: str) -> list[str]:
        return [str(int(trigger) * together + each) for each in range(together)]

    return {
        **report,
        "created": {job: created for trigger, created in report["created"].items() for job in jobs(trigger)},
        "fired": {job: reported_ends[job] for trigger in report["fired"] for job in jobs(trigger)},
        "failed": {job: failed for trigger, failed in report["failed"].items() for job in jobs(trigger)},
        "peak_waiting": report["peak_waiting"] * together,
    }


def _percentile(late: list[float], jobs: int, percent: int) -> float | None:
    # The percentile includes all jobs; those that failed or never ended count as the latest.
    rank = max(1, math.ceil(percent / 100 * jobs))
    return round(late[rank - 1], 3) if rank <= len(late) else None


def _end_times(report: dict[str, Any]) -> dict[str, float]:
    end_times: dict[str, float] = {**report["failed"], **report["fired"]}
    return end_times


def _waited(report: dict[str, Any]) -> float:
    end_times = _end_times(report)
    ended: float = report["ended"]
    return sum(end_times.get(number, ended) - created for number, created in report["created"].items())


def _ideal(report: dict[str, Any], first_request: float | None) -> int:
    """Return the number of requests with one bulk call per interval for every 100 waiting triggers."""
    if first_request is None:
        return 0
    created = sorted(report["created"].values())
    end_times = sorted(_end_times(report).values())
    total, moment = 0, first_request
    while moment < report["ended"]:
        waiting = bisect.bisect(created, moment) - bisect.bisect(end_times, moment)
        total += math.ceil(waiting / BULK)
        moment += INTERVAL
    return total


def _corrected_p99(delays: list[float]) -> float | None:
    # Coordinated omission: while one beat was late, the next ones were not recorded; add them as late.
    beats = sorted(late - BEAT * missed for late in delays for missed in range(1 + int(late / BEAT)))
    return beats[math.ceil(0.99 * len(beats)) - 1] if beats else None
