"""``python -m tests.fuzz``: read many inputs; stop at the first that fails and print it."""

from __future__ import annotations

import argparse
import logging
import resource
import signal
import sys
import time

# Before Airflow is imported, because it would create its home.
import tests.conftest  # noqa: F401
from tests.fuzz.check import check, check_many
from tests.fuzz.inputs import make
from tests.fuzz.wire import make_answer, wired

# Inputs have at most a megabyte, so reading one must not need more memory or time than this.
MEMORY = 3 * 2**30
SECONDS = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="number of responses to read")
    parser.add_argument(
        "--wire", type=int, default=4_000, help="number of responses to send over a socket to both hooks"
    )
    parser.add_argument("--seed", type=int, default=0, help="the first seed; use --count 1 to read one input again")
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


def _run(action, first, count, make, check):
    began = time.monotonic()

    def report(done):
        signal.alarm(SECONDS)
        if done % max(1, count // 20) == 0 or done == count:
            took = time.monotonic() - began
            print(f"{done:9,} of {count:,} {action}, {done / max(took, 1e-9):,.0f} a second", flush=True)

    signal.alarm(SECONDS)
    seen = check_many(range(first, first + count), make, check, report)
    signal.alarm(0)
    for word, times in seen.most_common():
        print(f"{times:9,} {word}")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024:9,} MB maximum memory\n")


def _hang(number, frame):
    raise AssertionError(f"an input was not read within {SECONDS} s")


if __name__ == "__main__":
    sys.exit(main())
