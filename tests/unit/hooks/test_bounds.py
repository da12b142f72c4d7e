"""No answer is too much: neither in bytes nor in time."""

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
    """A body of a length that is not told; what was sent of it is kept in ``sent``."""

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
    """An answer of which a little comes again and again, for as long as somebody listens."""

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


def test_an_answer_of_the_greatest_size_is_read(face, platform, connect):
    connect(platform.url)
    platform.answers = [reply(padded(SMALL)), reply(gzip.compress(padded(SMALL)), Content_Encoding="gzip")]
    assert face.send(GET_SMALL, GET_SMALL).id == JOB["id"]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_larger_one_is_no_answer(face, platform, connect, clock, packed):
    connect(platform.url)
    body = padded(SMALL + 1)
    platform.answers = [reply(gzip.compress(body), Content_Encoding="gzip") if packed else reply(body)]
    with pytest.raises(SevenBridgesMalformedReply, match=r"GET storage/exports/\w+ is not readable: it is larger than"):
        face.send(GET_SMALL)
    assert len(platform.seen) == 1


def test_an_export_whose_answer_is_too_large_may_have_been_accepted(face, platform, connect):
    connect(platform.url)
    platform.answers = [reply(padded(SMALL + 1)), reply(JOB)]
    with pytest.raises(SevenBridgesReplyLost, match="larger than"):
        face.send(START_SMALL)
    assert len(platform.seen) == 1


def test_a_refusal_stays_one_however_large(face, platform, connect):
    connect(platform.url)
    platform.answers = [reply(padded(SMALL + 1), 403)]
    with pytest.raises(SevenBridgesMalformedReply, match="larger than") as caught:
        face.send(START_SMALL)
    assert (caught.value.status, caught.value.permanent, len(platform.seen)) == (403, True, 1)


@pytest.mark.parametrize("headers", [{}, {"Content_Encoding": "identity"}, {"Content_Encoding": "br"}])
def test_no_more_than_that_is_read_of_an_answer_without_end(face, platform, connect, headers):
    connect(platform.url)
    answer = endless(**headers)
    platform.answers = [answer]
    with pytest.raises(SevenBridgesMalformedReply):
        face.send(GET, retry=False)
    # What was on its way counts too.
    assert answer.sent < GET.bounds.size + 32 * 2**20


def test_what_is_packed_counts_by_what_it_holds(face, platform, connect):
    connect(platform.url)
    zeros = gzip.compress(b"\x00" * (256 * 2**20), 1)
    platform.answers = [reply(zeros, Content_Encoding="gzip")]
    tracemalloc.start()
    try:
        with pytest.raises(SevenBridgesMalformedReply, match="larger than 16,777,216 bytes"):
            face.send(GET, retry=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * GET.bounds.size


def test_gzip_is_asked_for_and_unpacked(face, platform, connect):
    connect(platform.url)
    text = json.dumps(JOB).encode()
    members = gzip.compress(text[:20]) + gzip.compress(text[20:])
    platform.answers = [reply(members, Content_Encoding="gzip")]
    assert face.send(GET).id == JOB["id"]
    assert platform.seen[0].headers.get_all("Accept-Encoding") == ["gzip"]


def test_an_archive_of_many_members_is_no_answer(face, platform, connect):
    """Each costs a copy of all that follows."""
    connect(platform.url)
    members = gzip.compress(json.dumps(JOB).encode()) + gzip.compress(b"") * 5000
    platform.answers = [reply(members, Content_Encoding="gzip")]
    with pytest.raises(SevenBridgesReplyTooLarge, match="its archive has more than 100 members"):
        face.send(GET, retry=False)


def jobs_of(metadata):
    """Answer a bulk get; each job has so much metadata."""

    def answer(handler):
        ids = handler.server.platform.seen[-1].json["export_ids"]
        result = {"id": "f", "metadata": {"notes": "x" * metadata}}
        reply({"items": [{"resource": {**JOB, "id": each, "result": result}} for each in ids]})(handler)

    return answer


def test_jobs_that_are_too_much_together_are_fetched_in_tens(platform, connect):
    connect(platform.url)
    platform.answers = [jobs_of(20_000)]
    ids = [f"j{number}" for number in range(95)]
    assert [job.id for job in SevenBridgesHook().get_exports(ids)] == ids
    assert sorted(len(seen.json["export_ids"]) for seen in platform.seen) == [5, *[10] * 9, 95]


def test_jobs_that_are_too_much_in_tens_are_an_error(platform, connect):
    connect(platform.url)
    platform.answers = [jobs_of(2_000_000)]
    with pytest.raises(SevenBridgesReplyTooLarge, match="Export j"):
        SevenBridgesHook().get_exports([f"j{number}" for number in range(95)])
    assert len(platform.seen) <= 3


@pytest.mark.parametrize("status", [200, 404])
def test_gzip_that_breaks_off(face, platform, connect, status):
    connect(platform.url)
    platform.answers = [reply(gzip.compress(json.dumps(JOB).encode())[:-9], status, Content_Encoding="gzip")]
    with pytest.raises(SevenBridgesMalformedReply, match="its end is missing"):
        face.send(GET, retry=False)


def test_an_error_is_unpacked_too(face, platform, connect):
    connect(platform.url)
    error = gzip.compress(json.dumps({"status": 404, "code": 5002, "message": "No such file."}).encode())
    platform.answers = [reply(error, 404, Content_Encoding="gzip")]
    with pytest.raises(SevenBridgesNotFoundError, match="No such file"):
        face.send(GET)


@pytest.mark.parametrize("answer", TRICKLES.values(), ids=TRICKLES)
def test_an_answer_that_trickles_is_not_waited_for(face, platform, connect, answer):
    """Each byte comes in time, and all of them never."""
    connect(platform.url, extra={"connect_timeout": 0.2, "read_timeout": 0.3})
    platform.answers = [answer]
    began = time.monotonic()
    with pytest.raises(SevenBridgesConnectionError) as caught:
        face.send(GET, retry=False)
    assert time.monotonic() - began >= 0.3
    assert caught.value.sent


def test_an_export_whose_answer_trickles_may_have_been_accepted(face, platform, connect):
    connect(platform.url, extra={"connect_timeout": 0.2, "read_timeout": 0.3})
    platform.answers = [TRICKLES["body"], reply(JOB)]
    with pytest.raises(SevenBridgesReplyLost):
        face.send(START)
    assert len(platform.seen) == 1


def test_a_connection_that_was_kept_has_its_whole_time_again(face, platform, connect):
    connect(platform.url, extra={"connect_timeout": 0.3, "read_timeout": 0.3})

    def slow(handler):
        time.sleep(0.2)
        reply(JOB, keep=True)(handler)

    platform.answers = [slow]
    assert face.send(*[GET] * 6).id == JOB["id"]
    assert len(platform.seen) == 6


def test_who_waits_for_an_answer_that_trickles_can_be_interrupted(platform, connect):
    """As by the time limit of a task or by its end."""
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
