"""What may not be assumed of the Platform, Airflow, the network and clocks: each a weakening with a name.

A schedule draws each by its chance. Where one makes an invariant impossible for any client, ``spoils`` names it, and
``instead`` says what still holds; the world excuses only the files that it really struck. ``docs/assumptions.md``
describes each for users.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Weakening:
    """An assumption that a schedule can do without.

    :param name: by which it is switched, shown in traces, and named in the docs.
    :param what: what happens, in one sentence, with its bound.
    :param chance: of being on in a schedule that is not calm.
    :param spoils: the invariants that it makes impossible, once it has struck.
    :param instead: what holds in their place.
    """

    name: str
    what: str
    chance: float = 0.12
    spoils: tuple[str, ...] = ()
    instead: str = ""


LIST_LAG = READ_LAG = 30.0
CLOCK_SKEW = 600.0
PAUSE = 400.0
GATEWAY = 90.0

_TWO_OVERWRITING = "two jobs may be accepted; where they overwrite, the second may delete what the first has moved"
_TWO = "two jobs may be accepted, never two completed; no overwriting move destroys anything"

_ALL = (
    # Lists of jobs
    Weakening("lists lag", "a new job, or a job's new state, is listed 5 to 30 s late; its body may be newer", 0.2),
    Weakening("lists have no order", "each page of a list is in another order", 0.15),
    Weakening("totals lie", "a list's total is missing, or is more than its one page shows", 0.08),
    Weakening("jobs jump", "a job moves to a page that was read already, while the total stays", 0.1),
    # Reads
    Weakening("files lag", "a file shows that it is an alias up to 30 s after its job is COMPLETED", 0.2),
    Weakening("jobs lag", "a new job is not found by its id for up to 30 s", 0.12),
    Weakening("objects lag", "an object is seen up to 30 s after its job is COMPLETED", 0.2),
    Weakening("reads fail", "a read is answered 502 now and then", 0.15),
    Weakening(
        "reads fail after a lost response",
        "for up to 20 minutes after a lost response each read is answered 401, 403, 502 or by a gateway's page",
    ),
    Weakening(
        "poll answers are spoiled",
        "an item of a poll is null, without a state, left out or out of order, or all of it is rejected",
        0.1,
    ),
    # Clocks
    Weakening("clocks differ", "each process and the Platform has a clock of its own, off by up to 10 minutes", 0.25),
    Weakening(
        "the Platform sends no date",
        "responses have no Date header",
        0.08,
        ("I1", "I2"),
        f"only where clocks differ too: {_TWO}",
    ),
    # Requests
    Weakening("requests do not arrive", "a request does not leave the machine", 0.15),
    Weakening("responses are lost", "the response to a request is lost, whatever became of the request", 0.5),
    Weakening(
        "requests arrive late", f"one whose response was lost is accepted up to {GATEWAY:.0f} s later", 0.4
    ),
    Weakening(
        "requests arrive later than any bound",
        "one whose response was lost is accepted up to 17 minutes later",
        0.06,
        ("I1", "I2"),
        _TWO,
    ),
    Weakening(
        "requests are delivered twice",
        "a proxy sends a request a second time, up to 20 s later",
        0.05,
        ("I1", "I2", "I4"),
        "the client sent one; without overwrite the Platform rejects the second, with it the only copy may be lost",
    ),
    Weakening("maintenance is a lie", "a request answered as maintenance (503, code 0) was accepted", 0.1),
    Weakening(
        "a rejection is a lie",
        "a request rejected as malformed (400, code 9011) was accepted",
        0.05,
        ("I1", "I2", "I4"),
        "an error or a warning names the file, and a retry finds the job; never two completed; where they overwrite, "
        "the second may delete what the first has moved",
    ),
    Weakening("calls are rejected as a whole", "a call is answered 400, 429 or 503, and nothing is accepted", 0.12),
    Weakening("the Platform accepts nothing", "each submission is answered by a gateway's page", 0.02),
    Weakening("bulk answers are in disorder", "a bulk answer is short, swapped, or brief and shuffled", 0.12),
    Weakening("items are in trouble", "one item of a bulk answer is null, without a state, or in trouble", 0.12),
    # Airflow
    Weakening("workers die", "a worker dies between any two steps", 0.4),
    Weakening("dead workers live on", "Airflow takes a worker for dead that goes on for up to 15 s", 0.2),
    Weakening(
        "workers pause",
        f"a worker stands still for up to {PAUSE:.0f} s between any two steps, is taken for dead, and goes on",
    ),
    Weakening(
        "writes of the dead are accepted",
        "Airflow takes writes from a process that it has declared dead",
        0.03,
        ("I1", "I2", "I4", "T1"),
        _TWO_OVERWRITING,
    ),
    Weakening("resumed methods run again", "Airflow 3.0 runs a resumed method again in a retry, and keeps XComs", 0.15),
    Weakening("events come twice", "a task that defers again is resumed at once, with the event before", 0.1),
    Weakening("tasks are cleared", "a person clears a task, running or not", 0.25),
    Weakening("parameters change", "a retry or a cleared task exports something else, less, or elsewhere", 0.15),
    Weakening("tasks have twins", "another task, or a mapped one, has the same wishes", 0.2),
    # The record
    Weakening("there is no store", "Airflow below 3.3: a record is in XCom, which a retry wipes", 0.35),
    Weakening("the first try has no store", "the first try runs on an older Airflow", 0.1),
    Weakening("records are discarded", "Airflow 3.4 discards the record when the task is cleared", 0.12),
    Weakening("writes fail", "Airflow's API server does not answer a write, which it did or did not do", 0.12),
    Weakening("writes are slow", "60 s pass within a write", 0.12),
    Weakening(
        "records are stale",
        "a read of the record returns what was there before the last write",
        0.03,
        ("I1", "I2", "I4", "T1"),
        _TWO_OVERWRITING,
    ),
    Weakening("reads of the record fail", "Airflow's API server does not answer a read", 0.08),
    Weakening("records are unreadable", "a record is replaced by something that nobody can read", 0.12),
    Weakening("pages are lost", "one of a record's pages is gone", 0.1),
    # Others
    Weakening("others export too", "a colleague exports the same file otherwise, or another file to the place", 0.2),
    Weakening("files are deleted", "a file is deleted after its copy was made", 0.06),
    Weakening("copies are replaced", "somebody replaces a copy that was made", 0.08),
    Weakening("objects are locked", "an object cannot be deleted", 0.15),
    Weakening("jobs fail", "a job that would succeed fails, by an error of the storage service", 0.1),
)  # fmt: skip

WEAKENINGS = {weakening.name: weakening for weakening in _ALL}

# Of tasks alone.
_OF_TASKS = (
    Weakening("starts show late", "a task that was started is read as a draft for up to 30 s", 0.1),
    Weakening("lists are brief", "a list has only ids and names", 0.15),
    Weakening("drafts have errors", "the Platform's validation of half of the drafts has errors", 0.06),
    Weakening(
        "tries run twice",
        "without a store, two processes run the same try at once",
        0.1,
        ("T1",),
        "only where lists lag too: both may start a task",
    ),
    Weakening("tasks are stopped", "a person aborts a task on the Platform", 0.15),
    Weakening("drafts are deleted", "a person deletes a draft", 0.08),
)
# What cannot strike a task: it has no destination, and there is no bulk call that creates several.
_NOT_OF_TASKS = (
    "files lag",
    "objects lag",
    "bulk answers are in disorder",
    "pages are lost",
    "others export too",
    "files are deleted",
    "copies are replaced",
    "objects are locked",
)
TASK_WEAKENINGS = {
    weakening.name: weakening for weakening in (*_ALL, *_OF_TASKS) if weakening.name not in _NOT_OF_TASKS
}
