"""The hooks limit the size of a response and the time that it may take."""

from __future__ import annotations

import gzip
import json
import signal
import time
import tracemalloc
from dataclasses import replace

import pytest

from airflow_sb_provider.api import calls
from airflow_sb_provider.exceptions import (
    SevenBridgesConnectionError,
    SevenBridgesMalformedReply,
    SevenBridgesNotFoundError,
    SevenBridgesReplyLost,
    SevenBridgesReplyTooLarge,
)
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from tests.unit.hooks.both_hooks import EXPORT, JOB
from tests.unit.hooks.servers import reply

START = calls.start_export(EXPORT, copy_only=False)
GET = calls.get_export(JOB["id"])
SMALL = 100_000
MEGABYTE = b" " * 2**20


START_SMALL, GET_SMALL = (replace(call, bounds=calls.Bounds(SMALL, 1000)) for call in (START, GET))


def padded(size):
    body = json.dumps(JOB).encode()
    return body + b" " * (size - len(body))


def endless(**headers):
    """An endless body without a Content-Length; ``sent`` counts the bytes that were sent."""

    def answer(handler):
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.close_connection = True
        while answer.sent < 2**30:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(MEGABYTE), MEGABYTE))
            answer.sent += len(MEGABYTE)

    answer.sent = 0
    return answer


def trickling(head, drop):
    """A response that arrives a few bytes at a time until the client disconnects."""

    def answer(handler):
        handler.close_connection = True
        handler.wfile.write(head)
        while not handler.server.platform.over.wait(0.02):
            handler.wfile.write(drop)

    return answer


OK = b"HTTP/1.1 200 OK\r\n"
TRICKLES = {
    "body": trickling(OK + b"Content-Length: 1000000\r\n\r\n", b" "),
    "chunks": trickling(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "size of a chunk": trickling(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "body without length": trickling(OK + b"\r\n", b" "),
    "gzip": trickling(OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"")[:10], b"\x00\x00\x00\xff\xff"),
    "header": trickling(OK + b"X-Long: ", b"x"),
    "status": trickling(b"HTTP/1.1 200 ", b"O"),
    "interim answers": trickling(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


def test_a_response_of_the_maximum_size_is_read(any_hook, platform, connect):
    connect(platform.url)
    platform.answers = [reply(padded(SMALL)), reply(gzip.compress(padded(SMALL)), Content_Encoding="gzip")]
    assert any_hook.send(GET_SMALL, GET_SMALL).id == JOB["id"]


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_a_response_over_the_maximum_size_is_malformed(any_hook, platform, connect, clock, compressed):
    connect(platform.url)
    body = padded(SMALL + 1)
    platform.answers = [reply(gzip.compress(body), Content_Encoding="gzip") if compressed else reply(body)]
    with pytest.raises(SevenBridgesMalformedReply, match=r"GET storage/exports/\w+ is not readable: it is larger than"):
        any_hook.send(GET_SMALL)
    assert len(platform.seen) == 1


def test_an_export_whose_response_is_too_large_may_have_been_accepted(any_hook, platform, connect):
    connect(platform.url)
    platform.answers = [reply(padded(SMALL + 1)), reply(JOB)]
    with pytest.raises(SevenBridgesReplyLost, match="larger than"):
        any_hook.send(START_SMALL)
    assert len(platform.seen) == 1


def test_a_rejection_that_is_too_large_is_still_permanent(any_hook, platform, connect):
    connect(platform.url)
    platform.answers = [reply(padded(SMALL + 1), 403)]
    with pytest.raises(SevenBridgesMalformedReply, match="larger than") as caught:
        any_hook.send(START_SMALL)
    assert (caught.value.status, caught.value.permanent, len(platform.seen)) == (403, True, 1)


@pytest.mark.parametrize("headers", [{}, {"Content_Encoding": "identity"}, {"Content_Encoding": "br"}])
def test_an_endless_response_is_read_up_to_the_maximum_size(any_hook, platform, connect, headers):
    connect(platform.url)
    answer = endless(**headers)
    platform.answers = [answer]
    with pytest.raises(SevenBridgesMalformedReply):
        any_hook.send(GET, retry=False)
    # Bytes in the socket buffers count as sent.
    assert answer.sent < GET.bounds.size + 32 * 2**20


def test_the_maximum_size_applies_to_the_decompressed_response(any_hook, platform, connect):
    connect(platform.url)
    zeros = gzip.compress(b"\x00" * (256 * 2**20), 1)
    platform.answers = [reply(zeros, Content_Encoding="gzip")]
    tracemalloc.start()
    try:
        with pytest.raises(SevenBridgesMalformedReply, match="larger than 16,777,216 bytes"):
            any_hook.send(GET, retry=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * GET.bounds.size


def test_gzip_is_requested_and_decompressed(any_hook, platform, connect):
    connect(platform.url)
    text = json.dumps(JOB).encode()
    members = gzip.compress(text[:20]) + gzip.compress(text[20:])
    platform.answers = [reply(members, Content_Encoding="gzip")]
    assert any_hook.send(GET).id == JOB["id"]
    assert platform.seen[0].headers.get_all("Accept-Encoding") == ["gzip"]


def test_gzip_with_too_many_members_is_malformed(any_hook, platform, connect):
    """Each member costs a copy of all that follow."""
    connect(platform.url)
    members = gzip.compress(json.dumps(JOB).encode()) + gzip.compress(b"") * 5000
    platform.answers = [reply(members, Content_Encoding="gzip")]
    with pytest.raises(SevenBridgesReplyTooLarge, match="its archive has more than 100 members"):
        any_hook.send(GET, retry=False)


def jobs_of(metadata):
    """Respond to a bulk get; each job has ``metadata`` bytes of metadata."""

    def answer(handler):
        ids = handler.server.platform.seen[-1].json["export_ids"]
        result = {"id": "f", "metadata": {"notes": "x" * metadata}}
        reply({"items": [{"resource": {**JOB, "id": each, "result": result}} for each in ids]})(handler)

    return answer


def test_jobs_that_exceed_the_maximum_size_together_are_fetched_in_tens(platform, connect):
    connect(platform.url)
    platform.answers = [jobs_of(20_000)]
    ids = [f"j{number}" for number in range(95)]
    assert [job.id for job in SevenBridgesHook().get_exports(ids)] == ids
    assert sorted(len(seen.json["export_ids"]) for seen in platform.seen) == [5, *[10] * 9, 95]


def test_jobs_that_exceed_the_maximum_size_in_tens_are_an_error(platform, connect):
    connect(platform.url)
    platform.answers = [jobs_of(2_000_000)]
    with pytest.raises(SevenBridgesReplyTooLarge, match="Export j"):
        SevenBridgesHook().get_exports([f"j{number}" for number in range(95)])
    assert len(platform.seen) <= 3


@pytest.mark.parametrize("status", [200, 404])
def test_truncated_gzip_is_malformed(any_hook, platform, connect, status):
    connect(platform.url)
    platform.answers = [reply(gzip.compress(json.dumps(JOB).encode())[:-9], status, Content_Encoding="gzip")]
    with pytest.raises(SevenBridgesMalformedReply, match="its end is missing"):
        any_hook.send(GET, retry=False)


def test_an_error_response_is_decompressed(any_hook, platform, connect):
    connect(platform.url)
    error = gzip.compress(json.dumps({"status": 404, "code": 5002, "message": "No such file."}).encode())
    platform.answers = [reply(error, 404, Content_Encoding="gzip")]
    with pytest.raises(SevenBridgesNotFoundError, match="No such file"):
        any_hook.send(GET)


@pytest.mark.parametrize("answer", TRICKLES.values(), ids=TRICKLES)
def test_a_trickling_response_ends_at_the_read_timeout(any_hook, platform, connect, answer):
    """Each byte arrives in time, but the response never ends."""
    connect(platform.url, extra={"connect_timeout": 1, "read_timeout": 0.3})
    platform.answers = [answer]
    with pytest.raises(SevenBridgesConnectionError) as caught:
        any_hook.send(GET, retry=False)
    assert caught.value.sent


def test_an_export_whose_response_trickles_may_have_been_accepted(any_hook, platform, connect):
    connect(platform.url, extra={"connect_timeout": 1, "read_timeout": 0.3})
    platform.answers = [TRICKLES["body"], reply(JOB)]
    with pytest.raises(SevenBridgesReplyLost):
        any_hook.send(START)
    assert len(platform.seen) == 1


def test_the_read_timeout_restarts_with_each_request_on_a_kept_connection(any_hook, platform, connect):
    connect(platform.url, extra={"connect_timeout": 30, "read_timeout": 4})

    def slow(handler):
        time.sleep(0.8)
        reply(JOB, keep=True)(handler)

    platform.answers = [slow]
    assert any_hook.send(*[GET] * 6).id == JOB["id"]
    assert len(platform.seen) == 6


def test_a_signal_interrupts_the_wait_for_a_trickling_response(platform, connect):
    """As when Airflow ends the task or its time limit is reached."""
    connect(platform.url)
    platform.answers = [TRICKLES["header"]]

    def interrupt(number, frame):
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(InterruptedError):
            SevenBridgesHook().send(GET)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(platform.seen) == 1
