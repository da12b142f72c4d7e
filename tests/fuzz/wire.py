"""The same inputs over a socket, also with broken HTTP, for both hooks."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass

from airflow_sb_provider.exceptions import SevenBridgesError
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesAsyncHook, SevenBridgesHook
from tests.fuzz.check import check_error, check_value
from tests.fuzz.inputs import make
from tests.fuzz.samples import samples
from tests.unit.hooks.both_hooks import connection_variable

LINES = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"\r\n",
    b"HTTP/9.9 200\r\n",
    b"HTTP/1.1 +20 OK\r\n",
    b"Set-Cookie: a=\xff; x\r\n",
]
LINES += [
    b"Set-Cookie: \x00=;;;=\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 5, 7\r\n",
    b"Content-Length: 9e9\r\n",
]
LINES += [
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b" folded\r\n",
    b"no colon\r\n",
    b": none\r\n",
]
LINES += [
    b"X: " + b"y" * 70_000 + b"\r\n",
    b"X: y\r\n" * 200,
    b"Connection: upgrade\r\nUpgrade: x\r\n",
    b"ffffffffffffffff\r\n",
]
LINES += [
    b"Trailer: x\r\n",
    b"Location: \xff\xfe\r\n",
    b"Content-Encoding: gzip\r\n",
    b"0\r\n\r\n",
    b"Keep-Alive: timeout=x\r\n",
]


@dataclass(frozen=True)
class Answer:
    """The bytes that the server sends before it closes the connection."""

    seed: int
    sample: int
    data: bytes

    @property
    def call(self):
        return samples()[self.sample].call


def make_answer(seed: int) -> Answer:
    """Return the response of a seed, which is always the same."""
    given = make(seed)
    dice = random.Random(f"wire {seed}")
    head = [f"HTTP/1.1 {given.status:03d} Whatever\r\n".encode()]
    head += [f"{name}: {value}\r\n".encode("utf-8", "surrogateescape") for name, value in given.headers.items()]
    body = b"".join(given.chunks)
    framing = dice.randrange(4)
    if framing == 0:
        head.append(f"Content-Length: {len(body)}\r\n".encode())
    elif framing == 1:
        head.append(f"Content-Length: {len(body) + dice.choice([-1, 1, 2**70])}\r\n".encode())
    elif framing == 2:
        head.append(b"Transfer-Encoding: chunked\r\n")
        body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in given.chunks) + b"0\r\n\r\n"
    while dice.random() < 0.3:
        head.insert(dice.randint(0, len(head)), dice.choice(LINES))
    data = bytearray(b"".join(head) + b"\r\n" + body)
    while dice.random() < 0.3 and data:
        at = dice.randrange(min(len(data), 400))
        data[at : at + dice.randint(0, 3)] = dice.choice([b"", b"\x00", b"\r\n", b"\xff", b":", b"9", bytes(data[:at])])
    return Answer(seed, given.sample, bytes(data))


class Wire:
    """A server that responds to every request with `data`, and both hooks as its clients."""

    def __init__(self, listener: socket.socket) -> None:
        self.data = b""
        self._listener = listener
        self._sync = SevenBridgesHook()
        self._async = SevenBridgesAsyncHook()
        self._runner = asyncio.Runner()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._runner.run(self._async.close())
        self._runner.close()
        self._sync.get_conn().close()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += connection.recv(65536) or b"\r\n\r\n"
                    head, _, rest = request.partition(b"\r\n\r\n")
                    length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                    missing = int(length[0].split(b":")[1]) - len(rest) if length else 0
                    while missing > 0:
                        missing -= len(connection.recv(65536)) or missing
                    connection.sendall(self.data)
                except OSError:
                    continue

    def check(self, answer: Answer) -> str:
        """Send the call with both hooks, and return the kinds of results in a word.

        :raises AssertionError: a result is not a valid value or error. Any other exception is a failure, too.
        """
        self.data = answer.data
        words = []
        for send in (self._send_sync, self._send_async):
            try:
                value = send(answer.call)
            except SevenBridgesError as error:
                check_error(answer.call, error)
                words.append(type(error).__name__)
            else:
                check_value(value)
                words.append("value")
        return " / ".join(dict.fromkeys(words))

    def _send_sync(self, call):
        # Forget the rate limit of the last response, because the hook would wait.
        self._sync.rate_limit = None
        return self._sync.send(call, retry=False)

    def _send_async(self, call):
        return self._runner.run(self._async.send(call, retry=False))


@contextmanager
def wired():
    """Run the server, with the connection to it in the environment."""
    before = dict(os.environ)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            os.environ.pop(name, None)
            os.environ.pop(name.lower(), None)
        name, value = connection_variable(
            f"http://127.0.0.1:{listener.getsockname()[1]}", extra={"connect_timeout": 10, "read_timeout": 10}
        )
        os.environ[name] = value
        wire = Wire(listener)
        try:
            yield wire
        finally:
            wire.close()
            os.environ.clear()
            os.environ.update(before)
