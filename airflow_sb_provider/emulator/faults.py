"""Faults that strike chosen requests or jobs, a counted number of times."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from typing import Any

SUBMIT = "/v2/storage/exports"
BULK = "/v2/bulk/*"
CREATE = "/v2/bulk/storage/exports/create"

KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lose_reply": ("do it, then cut the connection without an answer", SUBMIT, {}),
    "drop": ("cut the connection without doing it", SUBMIT, {}),
    "refuse_connection": ("the same", SUBMIT, {}),
    "late_accept": ("cut the connection now, do it `seconds` later", SUBMIT, {"seconds": 0.2}),
    "cut_json": (
        "do it; the body breaks off after `keep` of it, and with `connection` the connection too",
        SUBMIT,
        {"keep": 0.5, "connection": False},
    ),
    "html": (
        "a gateway's page with `status`, HTML or what `body` says; nothing is done unless `done`",
        SUBMIT,
        {"status": 502, "done": False, "body": None},
    ),
    "text": (
        "a gateway's answer with `status` and `body`, not the API's JSON whatever `content_type` says; nothing is done "
        "unless `done`",
        SUBMIT,
        {"status": 404, "body": "default backend - 404", "content_type": "text/plain; charset=utf-8", "done": False},
    ),
    "error": (
        "an error object, such as maintenance (code 0) or 9011; nothing is done unless `done`",
        SUBMIT,
        {"status": None, "code": 90004, "message": None, "done": False},
    ),
    "delay": (
        "wait `before` seconds before doing it, `reply` seconds before answering",
        SUBMIT,
        {"before": 0.0, "reply": 0.0},
    ),
    "deliver_twice": (
        "a proxy sends the request again: the Platform does it twice, `seconds` apart; the caller gets the answer to "
        "the `answered` one, first or second",
        SUBMIT,
        {"seconds": 0.0, "answered": "first"},
    ),
    "redirect": ("send the caller to the URL `to`; nothing is done", SUBMIT, {"to": "", "status": 302}),
    "short_bulk": ("a bulk answer without its last item", BULK, {}),
    "long_bulk": ("a bulk answer with its last item twice", BULK, {}),
    "swapped_bulk": ("a bulk answer with its first two items swapped", BULK, {}),
    "brief_bulk": (
        "a bulk answer whose resources have only href, id and state, in reverse order if `shuffled`",
        CREATE,
        {"shuffled": True},
    ),
    "spoiled_bulk": (
        "a bulk answer whose items of `ids`, a text with spaces, are `how`: null, missing, stateless (a job without "
        "its state) or nul (a text with U+0000); or, refused, it is an error with `code` if one of them is requested",
        BULK,
        {"ids": "", "how": "null", "code": 90000},
    ),
    "no_rate_headers": ("an answer without X-RateLimit headers", "*", {}),
    "bad_rate_headers": ("an answer with X-RateLimit headers that say `value`", "*", {"value": "soon"}),
    "job_fails": (
        "the next accepted job fails with `code`, and ends in `state`",
        SUBMIT,
        {"code": 9100, "message": None, "state": "FAILED"},
    ),
    "job_stuck": ("the next accepted job stays in `state` until it is released", SUBMIT, {"state": "PENDING"}),
}
"""Each kind: what it does, the path it strikes unless told otherwise, its options and their defaults."""

JOB_KINDS = {"job_fails", "job_stuck"}


@dataclass
class Fault:
    """A fault that waits for its victims. `struck` counts them; `times` 0 means no end."""

    kind: str
    method: str
    path: str
    times: int
    after: int
    options: dict[str, Any] = field(default_factory=dict)
    struck: int = 0

    def strikes(self) -> bool:
        """Count one candidate; whether it is a victim."""
        if self.after > 0:
            self.after -= 1
            return False
        if self.times and self.struck >= self.times:
            return False
        self.struck += 1
        return True


class Faults:
    """All faults that were asked for, in that order."""

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
        """Ask for a fault.

        :param kind: one of `KINDS`.
        :param method: the HTTP method of the requests it strikes; `*` for any.
        :param path: their path, `*` in it standing for anything; each kind has a fitting default.
        :param times: how many it strikes, 0 for all from then on.
        :param after: how many it lets pass first.
        :param options: what the kind offers.
        :returns: the fault, whose `struck` can be watched.
        """
        if kind not in KINDS:
            raise ValueError(f"there is no trouble {kind!r}; there is {', '.join(KINDS)}")
        _, usual_path, defaults = KINDS[kind]
        if unknown := options.keys() - defaults.keys():
            raise ValueError(
                f"{kind} has no option {', '.join(sorted(unknown))}; it has {', '.join(defaults) or 'none'}"
            )
        method = method or ("*" if usual_path == "*" else "POST")
        trouble = Fault(kind, method, path or usual_path, times, after, {**defaults, **options})
        self.all.append(trouble)
        return trouble

    def clear(self) -> None:
        """Forget all faults."""
        self.all.clear()

    def for_request(self, method: str, path: str) -> dict[str, Fault]:
        """The faults that strike this request, by kind; each is counted."""
        return {
            trouble.kind: trouble
            for trouble in list(self.all)
            if trouble.kind not in JOB_KINDS
            and trouble.method in {method, "*"}
            and fnmatch.fnmatchcase(path, trouble.path)
            and trouble.strikes()
        }

    def for_job(self) -> list[Fault]:
        """The faults that strike the job just accepted; each is counted."""
        return [trouble for trouble in list(self.all) if trouble.kind in JOB_KINDS and trouble.strikes()]
