"""Both hooks behind one interface, and time that tests control."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace

from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesAsyncHook, SevenBridgesHook

TOKEN = "3259c50e1ac5426ea8f1273259740f74"
FILE = "567890abc9b0307bc0414164"
EXPORT = ExportRequest(FILE, "rfranklin/output", "output.vcf")
JOB = {
    "id": "erand0md6gMeuLlhWTNVj192RsnOMgdB",
    "state": "PENDING",
    "source": {"file": FILE},
    "destination": {"volume": "rfranklin/output", "location": "output.vcf"},
    "started_on": "2016-06-15T19:17:39Z",
}
VARIABLES = [
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NETRC"),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    "AIRFLOW_CONN_SEVENBRIDGES_DEFAULT",
]


def connection_variable(host=None, password=TOKEN, **fields):
    fields = {"conn_type": "sevenbridges", "host": host, "password": password, **fields}
    return "AIRFLOW_CONN_SEVENBRIDGES_DEFAULT", json.dumps(fields)


class AnyHook:
    """The synchronous or the asynchronous hook, with one interface."""

    def __init__(self, library):
        self.library = library

    def send(self, *calls, retry=True):
        """Send calls one after another through one hook; return the last one's value."""
        if self.library == "requests":
            hook = SevenBridgesHook()
            values = [hook.send(call, retry=retry) for call in calls]
        else:
            values = asyncio.run(self._send(calls, retry))
        return values[-1]

    async def _send(self, calls, retry):
        async with SevenBridgesAsyncHook() as hook:
            return [await hook.send(call, retry=retry) for call in calls]


class Clock:
    """``pauses`` lists the pauses in seconds; ``on_pause`` is called in each."""

    def __init__(self):
        self.passed = 0.0
        self.pauses = []
        self.on_pause = lambda: None

    def time(self):
        return time.time() + self.passed

    def pause(self, seconds):
        self.pauses.append(seconds)
        self.passed += seconds
        self.on_pause()

    def install(self, monkeypatch):
        monotonic, sleep = time.monotonic, asyncio.sleep

        async def pause(seconds, result=None):
            if seconds > 0:
                self.pause(seconds)
            return await sleep(0, result)

        clock = SimpleNamespace(monotonic=lambda: monotonic() + self.passed, sleep=self.pause, time=self.time)
        monkeypatch.setattr("tenacity.time", clock)
        monkeypatch.setattr("tenacity.nap.time", clock)
        monkeypatch.setattr("airflow_sb_provider.hooks.retry.time", clock)
        monkeypatch.setattr("airflow_sb_provider.engine.result.time", clock)
        monkeypatch.setattr(asyncio, "sleep", pause)
