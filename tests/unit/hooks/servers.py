"""A server on a free loopback port that gives scripted responses and records the requests."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Seen:
    method: str
    path: str
    headers: Any
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


def reply(data, status=200, keep=False, **headers):
    """An answer: bytes as they are, anything else as JSON."""
    body = data if isinstance(data, bytes) else json.dumps(data).encode()

    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        if not keep:
            handler.send_header("Connection", "close")
            handler.close_connection = True
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def raw(text):
    """An answer that is these bytes, after which the connection is closed."""

    def answer(handler):
        handler.wfile.write(text)
        handler.close_connection = True

    return answer


def cut(data):
    """An answer whose connection is closed in the middle of the body."""
    body = json.dumps(data).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return raw(head.encode() + body[: len(body) // 2])


def drop(handler):
    """No answer: the connection is closed when the request has been read."""
    handler.close_connection = True


def never(handler):
    """No answer at all for as long as the server lives."""
    handler.server.platform.over.wait(30)
    handler.close_connection = True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        platform = self.server.platform
        platform.seen.append(Seen(self.command, self.path, self.headers, body))
        answers = platform.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        answer(self)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def log_message(self, format, *args):
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        pass


class Platform:
    """``answers`` are given in order, the last one again and again; ``seen`` are the requests."""

    def __init__(self, *answers, ssl_context=None):
        self.over = threading.Event()
        self.begin(*answers)
        self.scheme = "https" if ssl_context else "http"
        self._server = Quiet(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self._server.platform = self
        if ssl_context:
            self._server.socket = ssl_context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._server.server_bind()
        self.port = self._server.server_address[1]
        self._thread = None

    def begin(self, *answers):
        """Clear the recorded requests, and release those that still wait for a response."""
        self.over.set()
        self.over = threading.Event()
        self.answers = list(answers) or [reply({})]
        self.seen = []
        self.now = time.time

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def listen(self):
        self._server.server_activate()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def close(self):
        self.over.set()
        if self._thread:
            self._server.shutdown()
            self._thread.join(5)
        self._server.server_close()


@contextmanager
def serving(*answers, **options):
    platform = Platform(*answers, **options).listen()
    try:
        yield platform
    finally:
        platform.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
