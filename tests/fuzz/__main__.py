"""``python -m tests.fuzz``: a great many inputs, with progress; the first that fails ends it and is shown."""

from __future__ import annotations

import argparse
import logging
import resource
import signal
import sys
import time

# Before Airflow is imported: it would make its home.
import tests.conftest  # noqa: F401
from tests.fuzz.check import check, check_many
from tests.fuzz.inputs import make
from tests.fuzz.wire import make_answer, wired

# No input here is larger than a megabyte: what needs more than this, or longer, has no bound.
MEMORY = 3 * 2**30
SECONDS = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="how many answers are read")
    parser.add_argument("--wire", type=int, default=4_000, help="how many also go over a socket, to both hooks")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; with --count 1 one input again")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _hang)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        _run("read", options.seed, options.count, make, check)
        if options.wire:
            with wired() as wire:
                _run("sent over a socket", options.seed, options.wire, make_answer, wire.check)
    except AssertionError as failed:
        print(f"\n{failed}", file=sys.stderr)
        return 1
    return 0


def _run(what, first, count, make, check):
    began = time.monotonic()

    def tell(done):
        signal.alarm(SECONDS)
        if done % max(1, count // 20) == 0 or done == count:
            took = time.monotonic() - began
            print(f"{done:9,} of {count:,} {what}, {done / max(took, 1e-9):,.0f} a second", flush=True)

    signal.alarm(SECONDS)
    seen = check_many(range(first, first + count), make, check, tell)
    signal.alarm(0)
    for word, times in seen.most_common():
        print(f"{times:9,} {word}")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024:9,} MB of memory at most\n")


def _hang(number, frame):
    raise AssertionError(f"nothing came of an input in {SECONDS} s")


if __name__ == "__main__":
    sys.exit(main())
