"""``python -m tests.fuzz.worst``: memory and longest blocking time of the most expensive responses.

A poll is read on a triggerer's event loop, which must not be blocked for more than 100 ms by a response; a list of
files is read in a worker. Time depends on the machine, so the tests assert only which responses are rejected.
"""

from __future__ import annotations

import argparse
import gzip
import time
import tracemalloc

from requests.structures import CaseInsensitiveDict

# Before Airflow is imported, because it would create its home.
import tests.conftest  # noqa: F401
from airflow_sb_provider.api import calls
from airflow_sb_provider.api.masking import Mask
from airflow_sb_provider.api.replies import Body, read_reply
from airflow_sb_provider.exceptions import SevenBridgesApiError
from airflow_sb_provider.exports.completed_feed import completed_exports
from airflow_sb_provider.hooks.retry import clean

TOKEN = "3259c50e1ac5426ea8f1273259740f74"
MASK = Mask(TOKEN)
IDS = [f"export{number}" for number in range(100)]
LOOP = 0.1
CHUNK = 64 * 1024


def in_items(*items: bytes) -> bytes:
    return b'{"items": [' + b",".join(items) + b"]}"


def filled(unit: bytes, size: int, values: int, marks: int) -> bytes:
    """Return as many units as the limits allow, each with this many values."""
    count = min((size - 100) // len(unit), (values - 20) // marks if marks else size)
    return unit * count


def numbered(form: str, size: int, values: int, marks: int) -> bytes:
    count = min((size - 100) // len(form % 10**7), (values - 20) // marks)
    return b",".join((form % (10**7 + number)).encode() for number in range(count))


def worst(bounds: calls.Bounds) -> dict[str, bytes]:
    """Return bodies of each kind that are just within the limits."""
    size, values = bounds.size, bounds.values

    def text(unit: bytes) -> bytes:
        return in_items(b'{"id": "x", "state": "' + filled(unit, size, values, 0) + b'"}')

    def values_of(unit: bytes, marks: int = 1) -> bytes:
        return b'{"items": [], "x": [' + filled(unit, size, values, marks) + b"0]}"

    error = b'{"error": {"status": 404, "message": "%s"}}'
    job = b'{"resource": {"id": "export%d", "state": "FAILED", "error": {"message": "%s"}}}'
    long = b"Zm9v" * (size // 450)
    return {
        "backslashes": text(b"\\\\"),
        "escapes": text(b"\\u00e9"),
        "escaped pairs": text(b"\\ud83d\\ude00"),
        "a long text": text(b"x"),
        "a long text, wide": text(b"x")[:-40] + "\U0001f600".encode() + b'"}]}',
        "white space": b"[" + b" " * (size - 100) + b"]",
        "open tags": b"<" * (size - 100),
        "the token": text(TOKEN.encode() + b" "),
        "short strings": values_of(b'"a",'),
        "different strings": b'{"items": [], "x": [' + numbered('"%d"', size, values, 1) + b"]}",
        "floats": values_of(b"1.5,"),
        "long floats": values_of(b"1." + b"3" * 300 + b","),
        "integers": values_of(b"12,"),
        "big integers": values_of(b"9" * 18 + b","),
        "huge integers": values_of(b"9" * 4200 + b","),
        "keys": b'{"items": [], "x": {' + numbered('"%d":0', size, values, 2) + b"}}",
        "empty objects": values_of(b"{},", 2),
        "empty lists": values_of(b"[],", 2),
        "nested lists": values_of(b"[" * 500 + b"]" * 500 + b",", 501),
        "nested objects": values_of(b'{"a":' * 400 + b"0" + b"}" * 400 + b",", 801),
        "a list too deep": b"[" * (values - 10),
        "many items": in_items(*[b'{"id":"a","state":"b"}'] * ((values - 20) // 5)),
        "a full page": in_items(*[b'{"id":"a","state":"b","result":{%s}}' % numbered('"%d":0', size, 90, 2)] * 1000),
        "a hundred errors": in_items(*[error % long] * 100),
        "errors, addresses": in_items(*[error % (b"%%%d41" % 25 * 300)] * 100),
        "errors, HTML": in_items(*[error % (b"&#51;" * 400)] * 100),
        "errors, escapes": in_items(*[error % (rb"\\u0051" * 400)] * 100),
        "errors, parts": in_items(*[error % ((TOKEN[:7].encode() + b"_") * 400)] * 100),
        "a hundred failed jobs": in_items(*[job % (number, long) for number in range(100)]),
        "too many values": values_of(b"0,", 1)[:-2] + b"," + b"0," * values + b"0]}",
        "too many bytes": b" " * (size + 1),
    }


def packed(bodies: dict[str, bytes], bounds: calls.Bounds) -> dict[str, bytes]:
    """Return bodies that are small when compressed."""
    empty = gzip.compress(b"")
    return {
        "gzip, a bomb": gzip.compress(bytes(64 * bounds.size)),
        "gzip, just fits": gzip.compress(bodies["floats"]),
        "gzip, empty members": empty * (bounds.size // len(empty)),
    }


def read(call, status, body, headers):
    """Read a body like the hooks, and return the result and the longest time without a pause."""
    longest = 0.0
    try:
        began = time.perf_counter()
        held = Body(call, status, headers)
        for start in range(0, len(body), CHUNK):
            longest = max(longest, time.perf_counter() - began)
            began = time.perf_counter()
            held.add(body[start : start + CHUNK])
        # There is no pause after the last chunk.
        value = read_reply(call, status, headers, held.whole(), MASK)
        clean(call, value, MASK)
        outcome = "value"
    except SevenBridgesApiError as error:
        MASK.error(error)
        outcome = type(error).__name__.removeprefix("SevenBridges")
    return outcome, max(longest, time.perf_counter() - began)


def measure(call, body, status=200, headers=()):
    headers = CaseInsensitiveDict(headers)
    outcome, seconds = min((read(call, status, body, headers) for _ in range(3)), key=lambda each: each[1])
    tracemalloc.start()
    try:
        read(call, status, body, headers)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return outcome, seconds, peak


def main() -> int:
    argparse.ArgumentParser(prog="python -m tests.fuzz.worst", description=__doc__).parse_args()
    slow = 0
    for title, call in (
        ("a poll, on the event loop", calls.get_exports(IDS)),
        ("a watcher's page, on the event loop", completed_exports("me/out", 0)),
        ("a page of files, in a worker", calls.list_files(project="me/p")),
    ):
        print(f"\n{title}: at most {call.bounds.size:,} bytes and {call.bounds.values:,} values")
        print(f"{'':24}{'bytes':>12}{'blocked':>12}{'memory':>10}  outcome")
        bodies = worst(call.bounds)
        for name, body in bodies.items():
            for status in (200, 502):
                slow += report(call, f"{name}{'' if status == 200 else ', 502'}", body, status)
        for name, body in packed(bodies, call.bounds).items():
            slow += report(call, name, body, headers={"Content-Encoding": "gzip"})
    print(f"\n{slow} answers block the event loop for more than {LOOP * 1000:.0f} ms.")
    return 0


def report(call, name, body, status=200, headers=()) -> bool:
    outcome, seconds, peak = measure(call, body, status, headers)
    print(f"{name:24}{len(body):12,}{seconds * 1000:9.0f} ms{peak / 2**20:7.0f} MB  {outcome}")
    return call.bounds is calls.POLL and seconds > LOOP


if __name__ == "__main__":
    raise SystemExit(main())
