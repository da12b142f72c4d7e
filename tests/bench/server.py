"""The server that every design polls: scripted jobs with the API of each peer, in a separate process.

It uses asyncio.Protocol directly, to be fast enough and to count TCP connections.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
import resource
import socket
import sys
import time
from collections import Counter
from email.utils import formatdate
from typing import cast

import uvloop

from tests.bench.plan import BIN, LIMIT, WINDOW, Cell

LATENCY = 0.05

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TOKEN = re.compile(rb"\r\n(?:x-sbg-auth-token|authorization): *([^\r]*)", re.IGNORECASE)
_NUMBER = re.compile(rb"(\d+)/?$")

_JOB = (
    b'{"href":"https://api.sbgenomics.com/v2/storage/exports/%(id)b","id":"%(id)b","state":"%(state)b","source":{"file":'
    b'"567890abc9b0307bc0414164"},"destination":{"volume":"rfranklin/output","location":"results/2026/%(id)b.vcf.gz"},'
    b'"started_on":"2026-11-24T10:00:00Z","overwrite":false,"properties":{"sse_algorithm":"AES256"}%(rest)b}'
)
_RESULT = (
    b',"finished_on":"2026-11-24T10:10:00Z","result":{"href":"https://api.sbgenomics.com/v2/files/567890abc9b0307bc0414164'
    b'","id":"567890abc9b0307bc0414164","name":"%(id)b.vcf.gz","size":104857600,"project":"rfranklin/my-project",'
    b'"parent":"567890abc9b0307bc0414000","type":"file","created_on":"2026-11-24T09:00:00Z","modified_on":'
    b'"2026-11-24T10:10:00Z","storage":{"type":"VOLUME","volume":"rfranklin/output","location":"results/2026/%(id)b.vcf.gz"'
    b'},"origin":{"task":"1e0d0fb1-5a3c-4b0c-8a3d-1f2e3d4c5b6a"},"tags":[],"metadata":{"sample_id":"S1"}}'
)
_REFUSAL = b'{"status":429,"code":1000,"message":"Rate limit exceeded! Check response headers.","more_info":""}'
# The peers' responses: the fields that their triggers read, in the size of real responses.
_DATABRICKS = (
    b'{"job_id":1,"run_id":%%d,"run_name":"run","run_page_url":"https://example.com/#job/1/run/1","tasks":[],'
    b'"cluster_spec":"%b","state":{"life_cycle_state":%%b,"state_message":""}}' % (b"x" * 950)
)
_DBT = b'{"status":{"code":200,"is_success":true},"data":{"id":%%d,"status":%%b,"run_steps":["%b"]}}' % (b"x" * 1_100)
_AIRBYTE = (
    b'{"jobId":%d,"status":"%b","jobType":"sync","startTime":"2026-11-24T10:00:00Z","connectionId":'
    b'"18dccc91-0ab1-4f72-9ed7-0b8fc27c5826","lastUpdatedAt":"2026-11-24T10:00:00Z","bytesSynced":0,"rowsSynced":0}'
)
_PEERS = (
    (b"/api/2.", _DATABRICKS, b'"RUNNING"', b'"TERMINATED","result_state":"SUCCESS"'),
    (b"/api/v2/", _DBT, b"3", b"10"),
    (b"/", _AIRBYTE, b"running", b"succeeded"),
)


class Server:
    """The state of the jobs, the rate limit, and all counts."""

    def __init__(self, cell: Cell) -> None:
        self.limit = cell.limit
        self.finishes = [finish for _, finish in cell.schedule()]
        self.began = math.inf
        self.counts: Counter[str] = Counter(dict.fromkeys(("requests", "id_asks", "refused", "connections"), 0))
        self.open = self.peak_open = self.in_flight = self.peak_in_flight = 0
        self.first_request: float | None = None
        self.timeline: dict[int, list[int]] = {}
        self.windows: dict[bytes, tuple[int, int]] = {}
        self.reported_ends: dict[int, float] = {}

    def report(self) -> dict[str, object]:
        return {
            **self.counts,
            "peak_open": self.peak_open,
            "peak_in_flight": self.peak_in_flight,
            "first_request": self.first_request,
            "timeline": [[second, *counted] for second, counted in sorted(self.timeline.items())],
            "reported_ends": self.reported_ends,
            "cpu": time.process_time(),
        }

    def answer(self, target: bytes, head: bytes, body: bytes) -> bytes:
        now = time.time()
        path = target.partition(b"?")[0]
        ids = self._ids(path, body)
        free = path == b"/v2/rate_limit"
        cost = 0 if free else len(ids) if self.limit == "items" else 1
        refused, headers = self._charge(head, now, cost) if self.limit != "none" else (False, b"")
        self._count(now, len(ids), refused, cost)
        if refused:
            return _response(b"429 Too Many Requests", headers, _REFUSAL)
        if free:
            limit, left, reset = [*map(int, re.findall(rb": (\d+)", headers)), LIMIT, LIMIT, 0][:3]
            body = b'{"rate":{"limit":%d,"remaining":%d,"reset":%d}}' % (limit, left, reset)
            return _response(b"200 OK", headers, body)
        done = [now - self.began >= self.finishes[number] for number in ids]
        for number in itertools.compress(ids, done):
            self.reported_ends.setdefault(number, now - self.began + LATENCY)
        return _response(b"200 OK", headers, _body(path, ids, done))

    def _ids(self, path: bytes, body: bytes) -> list[int]:
        if path == b"/v2/bulk/storage/exports/get":
            return [int(export_id) for export_id in json.loads(body)["export_ids"]]
        if path.startswith(b"/api/2."):
            return [int(json.loads(body)["run_id"])]
        found = _NUMBER.search(path)
        return [int(found[1])] if found else []

    def _charge(self, head: bytes, now: float, cost: int) -> tuple[bool, bytes]:
        found = _TOKEN.search(head)
        token = found[1] if found else b""
        reset, left = self.windows.get(token, (0, LIMIT))
        if now >= reset:
            reset, left = math.ceil(now) + WINDOW, LIMIT
        refused = cost > left
        left -= 0 if refused else cost
        self.windows[token] = (reset, left)
        headers = (LIMIT, left, reset)
        return refused, b"X-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d\r\n" % headers

    def _count(self, now: float, ids: int, refused: bool, cost: int) -> None:
        if self.first_request is None:
            self.first_request = now - self.began
        self.counts["requests"] += 1
        self.counts["id_asks"] += ids
        self.counts["refused"] += refused
        counted = self.timeline.setdefault(int((now - self.began) // BIN) * BIN, [0, 0, 0])
        counted[0] += 1
        counted[1] += refused
        counted[2] += 0 if refused else cost


def _body(path: bytes, ids: list[int], done: list[bool]) -> bytes:
    if path.startswith(b"/v2/"):
        jobs = [_job(*job) for job in zip(ids, done, strict=True)]
        return b'{"items":[{"resource":%b}]}' % b'},{"resource":'.join(jobs) if b"/bulk/" in path else jobs[0]
    answer, running, succeeded = next(texts for prefix, *texts in _PEERS if path.startswith(prefix))
    return answer % (ids[0], succeeded if done[0] else running)


def _job(number: int, ended: bool) -> bytes:
    name = b"%032d" % number
    rest = _RESULT % {b"id": name} if ended else b""
    return _JOB % {b"id": name, b"state": b"COMPLETED" if ended else b"RUNNING", b"rest": rest}


def _response(status: bytes, headers: bytes, body: bytes) -> bytes:
    date = formatdate(usegmt=True).encode()
    head = b"HTTP/1.1 %b\r\nDate: %b\r\nContent-Type: application/json\r\n" % (status, date)
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (head, headers, len(body), body)


class Connection(asyncio.Protocol):
    """The part of HTTP/1.1 that the clients need: one request at a time, bodies with a length."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        server = self._server
        server.counts["connections"] += 1
        server.open += 1
        server.peak_open = max(server.peak_open, server.open)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.open -= 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end]
        found = _LENGTH.search(head)
        whole = end + 4 + (int(found[1]) if found else 0)
        if len(self._buffer) < whole:
            return
        body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
        server = self._server
        answer = server.answer(head.split(b" ", 2)[1], head, body)
        server.in_flight += 1
        server.peak_in_flight = max(server.peak_in_flight, server.in_flight)
        asyncio.get_running_loop().call_later(LATENCY, self._send, answer)

    def _send(self, answer: bytes) -> None:
        self._server.in_flight -= 1
        if self._transport and not self._transport.is_closing():
            self._transport.write(answer)


async def main(cell: Cell) -> None:
    """Print the port; read ``start TIME`` and ``stop``; print the counts."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = asyncio.get_running_loop()
    server = Server(cell)
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    await loop.create_server(lambda: Connection(server), sock=listening, backlog=4096)
    print(listening.getsockname()[1], flush=True)
    stopped = asyncio.Event()

    def read_command() -> None:
        word, _, moment = sys.stdin.readline().strip().partition(" ")
        if word == "start":
            server.began = float(moment)
        else:
            stopped.set()

    loop.add_reader(0, read_command)
    await stopped.wait()
    print(json.dumps(server.report()), flush=True)


if __name__ == "__main__":
    uvloop.run(main(Cell(**json.loads(sys.argv[1]))))
