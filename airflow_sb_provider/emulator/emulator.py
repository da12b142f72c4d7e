"""The local Platform as an object: started, watched and troubled from Python."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import secrets
import threading
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from airflow_sb_provider.emulator.buckets import PATH, Buckets
from airflow_sb_provider.emulator.control import Control
from airflow_sb_provider.emulator.faults import Fault, Faults
from airflow_sb_provider.emulator.guard import is_loopback
from airflow_sb_provider.emulator.knobs import Knobs
from airflow_sb_provider.emulator.platform import Access, ExportJob, File, Platform, Volume
from airflow_sb_provider.emulator.seed import PROJECT, seed
from airflow_sb_provider.emulator.server import Server
from airflow_sb_provider.emulator.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_sb_provider.emulator.records import Event, RequestRecord

    Listener = Callable[[RequestRecord], Any]

log = logging.getLogger(__name__)


class Emulator:
    """The local Platform, served by a thread of its own: `with Emulator() as emulator: ...`.

    :param host: the loopback address to listen on; ValueError for any other.
    :param port: the port, 0 for a free one.
    :param token: the first user's token; a new one unless given. Never taken from the environment.
    :param username: the first user.
    :param storage: a folder or an fsspec URL for the bytes; a temporary folder unless given.
    :param storage_endpoint: the URL of an S3-compatible service.
    :param seeded: whether it starts with the demo project's files and volumes.
    :param knobs: settings to start with.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        username: str = "demo",
        storage: str | None = None,
        storage_endpoint: str | None = None,
        seeded: bool = True,
        knobs: Knobs | None = None,
    ) -> None:
        if not is_loopback(host):
            raise ValueError(
                f"host {host!r} is no loopback address; the local Platform listens on 127.0.0.1 or ::1 only"
            )
        self.knobs = knobs or Knobs()
        self.token = secrets.token_hex(16) if token is None else token
        if not re.fullmatch("[!-~]{1,512}", self.token):
            raise ValueError("token: give one line of 1 to 512 printable ASCII characters without spaces")
        self.platform = Platform(self.knobs, Storage(storage, storage_endpoint))
        self.platform.add_user(username, self.token)
        self.troubles = Faults()
        # The name may have two addresses, whose free ports differ.
        self.host = "127.0.0.1" if host.lower().startswith("localhost") else host
        self.port = port
        self._listeners: dict[Event, list[Listener]] = {"request": [], "accepted": []}
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        if seeded:
            seed(self.platform)

    # Its life

    def start(self) -> Self:
        """Listen; returns when requests are answered.

        :raises OSError: the port is taken.
        """
        started = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                asyncio.run(self._serve(started))
            except BaseException as failure:
                failures.append(failure)
                started.set()

        self._thread = threading.Thread(target=run, name="local-platform", daemon=True)
        self._thread.start()
        started.wait()
        if failures:
            raise failures[0]
        return self

    def stop(self) -> None:
        """Stop listening, abandon running jobs, remove a temporary storage."""
        if self._loop and self._stopping and self._thread:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self.platform.storage.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._server = Server(self.platform, self.troubles, self._notify)
        app = self._server.application()
        Control(self._server, self.troubles).add_to(app)
        if not self.platform.storage.has_real_buckets:
            Buckets(self.platform.storage).add_to(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self.host, self.port)
            await site.start()
            self.port = int(runner.addresses[0][1])
            started.set()
            await self._stopping.wait()
        finally:
            await self._server.stop()
            await runner.cleanup()

    # Where it is

    @property
    def url(self) -> str:
        """The API's base URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v2"

    def connection_json(self) -> str:
        """The Airflow connection to it, as JSON for AIRFLOW_CONN_SEVENBRIDGES_DEFAULT."""
        return json.dumps({"conn_type": "sevenbridges", "host": self.url, "password": self.token})

    def s3_environment(self) -> dict[str, str]:
        """Environment variables with which S3 clients read its buckets; empty where the buckets are real ones."""
        if self.platform.storage.has_real_buckets:
            return {}
        return {
            "AWS_ENDPOINT_URL_S3": self.url.removesuffix("/v2") + PATH,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    # What it holds

    def add_file(
        self, name: str, data: bytes, project: str = PROJECT, folder: str | None = None, **details: Any
    ) -> File:
        """A file with these bytes; its project is made if it is not there, and `folder`, a path such as `a/b`.

        `details`: parent (a folder's id), file_id, alias=(volume, location), public, archived, hosted_on, tags,
        metadata, task, secondary.
        """
        if project not in self.platform.projects:
            self.platform.add_project(project)
        if folder:
            details["parent"] = self.platform.folder_at(folder, project).id
        return self.platform.add_file(name, data, project, **details)

    def add_volume(
        self,
        volume_id: str,
        bucket: str | None = None,
        prefix: str = "",
        access_mode: str = "RW",
        active: bool = True,
        service_type: str = "S3",
        **details: Any,
    ) -> Volume:
        """A volume; `details`: region, properties (its defaults for exports)."""
        return self.platform.add_volume(
            volume_id,
            bucket,
            prefix=prefix,
            access_mode=access_mode,
            active=active,
            service_type=service_type,
            **details,
        )

    def add_token(self, username: str, access: Access = "write") -> str:
        """A token of a user, who may "write" everywhere, only "read", or do nothing ("none")."""
        return self.platform.add_user(username, access=access).token

    def put_object(self, volume_id: str, location: str, data: bytes) -> None:
        """An object that no export made."""
        volume = self.platform.volumes[volume_id]
        self.platform.storage.write(volume.bucket, self.platform.key(volume, location), data)

    def object_bytes(self, volume_id: str, location: str) -> bytes:
        """The bytes of an object; FileNotFoundError if there is none."""
        volume = self.platform.volumes[volume_id]
        return self.platform.storage.read(volume.bucket, self.platform.key(volume, location))

    def object_url(self, volume_id: str, location: str) -> str:
        """Where an object's bytes can be read on this machine, as an fsspec URL."""
        volume = self.platform.volumes[volume_id]
        return self.platform.storage.object_url(volume.bucket, self.platform.key(volume, location))

    @property
    def requests(self) -> list[RequestRecord]:
        """All requests received so far, refused and troubled ones included."""
        return list(self._server.requests) if self._server else []

    @property
    def exports(self) -> list[ExportJob]:
        """All jobs accepted so far, oldest first, those included whose reply was lost."""
        return list(self.platform.exports.values())

    # What befalls it

    def trouble(
        self,
        kind: str,
        method: str | None = None,
        path: str | None = None,
        times: int = 1,
        after: int = 0,
        **options: Any,
    ) -> Fault:
        """Ask for a fault; see `Faults.add` and `KINDS`."""
        return self.troubles.add(kind, method, path, times, after, **options)

    def release(self, export_id: str) -> None:
        """Let a job go on that a `job_stuck` holds."""
        self.platform.exports[export_id].held = None
        if self._server:
            self._server.jobs.wake()

    def on(self, event: Event, callback: Listener) -> None:
        """Call back in the server's thread, which waits meanwhile; a callback that returns False cuts the connection.

        :param event: "request", on receiving one, before anything is done; "accepted", when the jobs of a submission
            are accepted, before its reply.
        :param callback: gets the request's record.
        """
        self._listeners[event].append(callback)

    def _notify(self, event: Event, record: RequestRecord) -> bool:
        answers = []
        for callback in list(self._listeners[event]):
            try:
                answers.append(callback(record))
            except Exception:
                log.exception("a callback for %r failed", event)
        return False not in answers
