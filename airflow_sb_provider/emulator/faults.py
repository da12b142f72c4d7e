"""Fault injection: each fault affects the requests or jobs that match it, a given number of times."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.emulator.errors import ApiError

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.platform import Job

SUBMIT = "/v2/storage/exports"
BULK = "/v2/bulk/*"
CREATE = "/v2/bulk/storage/exports/create"

KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lose_reply": ("process the request, then cut the connection without a response", SUBMIT, {}),
    "drop": ("cut the connection and do not process the request", SUBMIT, {}),
    "refuse_connection": ("the same as `drop`", SUBMIT, {}),
    "late_accept": ("cut the connection now, process the request `seconds` later", SUBMIT, {"seconds": 0.2}),
    "cut_json": (
        "process the request, but send only the share `keep` of the body; with `connection`, then cut the connection",
        SUBMIT,
        {"keep": 0.5, "connection": False},
    ),
    "html": (
        "respond with a gateway's HTML page with `status` (or with `body`); process the request only if `done`",
        SUBMIT,
        {"status": 502, "done": False, "body": None},
    ),
    "text": (
        "respond with a gateway's `status`, `body` and `content_type` instead of the API's JSON; process the request "
        "only if `done`",
        SUBMIT,
        {"status": 404, "body": "default backend - 404", "content_type": "text/plain; charset=utf-8", "done": False},
    ),
    "error": (
        "respond with an error object, such as maintenance (code 0) or 9011; process the request only if `done`",
        SUBMIT,
        {"status": None, "code": 90004, "message": None, "done": False},
    ),
    "delay": (
        "wait `before` seconds before processing the request, and `reply` seconds before the response",
        SUBMIT,
        {"before": 0.0, "reply": 0.0},
    ),
    "deliver_twice": (
        "a proxy delivers the request twice, `seconds` apart, and both are processed; the caller gets the response "
        "to the `answered` one, first or second",
        SUBMIT,
        {"seconds": 0.0, "answered": "first"},
    ),
    "redirect": ("redirect the caller to the URL `to`; do not process the request", SUBMIT, {"to": "", "status": 302}),
    "short_bulk": ("a bulk response without its last item", BULK, {}),
    "long_bulk": ("a bulk response with its last item twice", BULK, {}),
    "swapped_bulk": ("a bulk response with its first two items swapped", BULK, {}),
    "brief_bulk": (
        "a bulk response whose resources have only href, id and state, in reverse order if `shuffled`",
        CREATE,
        {"shuffled": True},
    ),
    "spoiled_bulk": (
        "a bulk response in which the items with these `ids` (separated by spaces) are `how`: null, missing, stateless "
        "(a job without its state) or nul (a text with U+0000); with `how` refused, the call fails with `code` if it "
        "requests one of these ids",
        BULK,
        {"ids": "", "how": "null", "code": 90000},
    ),
    "no_rate_headers": ("a response without X-RateLimit headers", "*", {}),
    "bad_rate_headers": ("a response whose X-RateLimit headers have the value `value`", "*", {"value": "soon"}),
    "job_fails": (
        "the next accepted export, or task that is run, fails with `code`; its terminal state is `state`",
        "*",
        {"code": 9100, "message": None, "state": "FAILED"},
    ),
    "job_stuck": (
        "the next accepted export, or task that is run, stays in `state` (by default its first) until it is released",
        "*",
        {"state": None},
    ),
}
"""Each kind of fault: its effect, the default path, and its options with their defaults."""

JOB_KINDS = {"job_fails", "job_stuck"}


@dataclass
class Fault:
    """An injected fault. `struck` counts how often it was applied; `times` 0 means no limit."""

    kind: str
    method: str
    path: str
    times: int
    after: int
    options: dict[str, Any] = field(default_factory=dict)
    struck: int = 0

    def applies(self) -> bool:
        """Count a matching request or job, and return whether the fault applies to it."""
        if self.after > 0:
            self.after -= 1
            return False
        if self.times and self.struck >= self.times:
            return False
        self.struck += 1
        return True


class Faults:
    """All injected faults, in the order of their injection."""

    def __init__(self) -> None:
        self.all: list[Fault] = []

    def add(
        self,
        kind: str,
        method: str | None = None,
        path: str | None = None,
        times: int = 1,
        after: int = 0,
        **options: Any,
    ) -> Fault:
        """Inject a fault.

        :param kind: one of `KINDS`.
        :param method: the HTTP method of the requests that it affects; `*` for any.
        :param path: their path, in which `*` matches anything; each kind has its own default.
        :param times: how many it affects; 0 for all from now on.
        :param after: how many it skips first.
        :param options: the options of the kind.
        :returns: the fault; its `struck` counts how often it was applied.
        :raises ValueError: the kind or an option is unknown.
        """
        if kind not in KINDS:
            raise ValueError(f"unknown kind of fault {kind!r}; known are {', '.join(KINDS)}")
        _, default_path, defaults = KINDS[kind]
        if unknown := options.keys() - defaults.keys():
            raise ValueError(
                f"{kind} has no option {', '.join(sorted(unknown))}; its options: {', '.join(defaults) or 'none'}"
            )
        method = method or ("*" if default_path == "*" else "POST")
        fault = Fault(kind, method, path or default_path, times, after, {**defaults, **options})
        self.all.append(fault)
        return fault

    def clear(self) -> None:
        """Remove all faults."""
        self.all.clear()

    def for_request(self, method: str, path: str) -> dict[str, Fault]:
        """Return the faults that affect this request, by kind, and count them."""
        return {
            fault.kind: fault
            for fault in list(self.all)
            if fault.kind not in JOB_KINDS
            and fault.method in {method, "*"}
            and fnmatch.fnmatchcase(path, fault.path)
            and fault.applies()
        }

    def apply_to(self, job: Job, path: str) -> None:
        """Apply the faults that affect a job that was just accepted, and count them.

        :param path: the path of the request that submitted it.
        """
        for fault in list(self.all):
            if fault.kind in JOB_KINDS and fnmatch.fnmatchcase(path, fault.path) and fault.applies():
                options = fault.options
                if fault.kind == "job_stuck":
                    job.held = options["state"] or job.state
                else:
                    job.fail_with = ApiError(int(options["code"]), options["message"])
                    job.fail_as = str(options["state"])
