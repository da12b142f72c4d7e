"""The local Platform as a Python object: start it, fill it, inject faults, and read what it received."""

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

from airflow_sb_provider.emulator.apps import make_app
from airflow_sb_provider.emulator.buckets import PATH, Buckets
from airflow_sb_provider.emulator.control import Control
from airflow_sb_provider.emulator.faults import Fault, Faults
from airflow_sb_provider.emulator.guard import PAGES, is_loopback
from airflow_sb_provider.emulator.knobs import Knobs
from airflow_sb_provider.emulator.platform import Access, ExportJob, File, ImportJob, Platform, Volume
from airflow_sb_provider.emulator.seed import PROJECT, seed
from airflow_sb_provider.emulator.server import Server
from airflow_sb_provider.emulator.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_sb_provider.emulator.apps import App
    from airflow_sb_provider.emulator.records import Event, RequestRecord
    from airflow_sb_provider.emulator.tasks import Task

    Listener = Callable[[RequestRecord], Any]

log = logging.getLogger(__name__)


class Emulator:
    """The local Platform, served by its own thread: `with Emulator() as emulator: ...`.

    :param host: the loopback address to listen on.
    :param port: the port; 0 chooses a free one.
    :param token: the first user's token; a new one by default. It is never read from the environment.
    :param username: the first user's name.
    :param storage: a folder or an fsspec URL where bytes are stored; a temporary folder by default.
    :param storage_endpoint: the URL of an S3-compatible service.
    :param seeded: whether to start with the demo project's files and volumes.
    :param knobs: the initial settings.
    :raises ValueError: the host is not a loopback address, or the token cannot be sent in a header.
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
                f"host {host!r} is not a loopback address; the local Platform listens only on 127.0.0.1 or ::1"
            )
        self.knobs = knobs or Knobs()
        self.token = secrets.token_hex(16) if token is None else token
        if not re.fullmatch("[!-~]{1,512}", self.token):
            raise ValueError("token: must be one line of 1 to 512 printable ASCII characters without spaces")
        self.platform = Platform(self.knobs, Storage(storage, storage_endpoint))
        self.platform.add_user(username, self.token)
        self.troubles = Faults()
        # The name may resolve to two addresses, and a port that is free on one may be taken on the other.
        self.host = "127.0.0.1" if host.lower().startswith("localhost") else host
        self.port = port
        self._listeners: dict[Event, list[Listener]] = {"request": [], "accepted": []}
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._fill: Callable[[Platform], None] = seed if seeded else lambda platform: None
        self._fill(self.platform)

    # Start and stop

    def start(self) -> Self:
        """Start to listen. Returns when the server is ready.

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
        """Stop listening, cancel running jobs, and remove temporary storage."""
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
        Control(self._server, self.troubles, self._fill).add_to(app)
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

    # Addresses

    @property
    def url(self) -> str:
        """The base URL of the API."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v2"

    @property
    def pages_url(self) -> str:
        """The address of the pages for a browser."""
        return f"{self.url.removesuffix('/v2')}{PAGES}/"

    @property
    def reset_command(self) -> str:
        """The command that restores the initial contents."""
        return f"curl -X POST {self.url.removesuffix('/v2')}/_local/reset"

    def connection_json(self) -> str:
        """Return an Airflow connection to this Platform, as JSON for AIRFLOW_CONN_SEVENBRIDGES_DEFAULT."""
        return json.dumps({"conn_type": "sevenbridges", "host": self.url, "password": self.token})

    def s3_environment(self) -> dict[str, str]:
        """Return environment variables with which S3 clients read the buckets; empty for real buckets."""
        if self.platform.storage.has_real_buckets:
            return {}
        return {
            "AWS_ENDPOINT_URL_S3": self.url.removesuffix("/v2") + PATH,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    # Contents

    def add_file(
        self, name: str, data: bytes, project: str = PROJECT, folder: str | None = None, **details: Any
    ) -> File:
        """Add a file with these bytes.

        :param name: the file's name.
        :param data: its bytes.
        :param project: its project, created if it does not exist.
        :param folder: the path of its folder, such as `a/b`, created if it does not exist.
        :param details: `parent` (a folder's id), `file_id`, `alias=(volume, location)`, `public`, `archived`,
            `hosted_on`, `tags`, `metadata`, `task`, `secondary`.
        """
        if project not in self.platform.projects:
            self.platform.add_project(project)
        if folder:
            details["parent"] = self.platform.folder_at(folder, project).id
        return self.platform.add_file(name, data, project, **details)

    def add_import(
        self,
        volume_id: str,
        location: str,
        project: str = PROJECT,
        name: str | None = None,
        username: str | None = None,
    ) -> ImportJob:
        """Import an object that is on a volume: add an alias of it, and the job that made it.

        :param name: the alias's name, by default the end of `location`.
        :param username: who imported it, by default the first user.
        """
        if project not in self.platform.projects:
            self.platform.add_project(project)
        username = username or next(iter(self.platform.users.values())).username
        return self.platform.add_import(username, volume_id, location, project, name or location.rpartition("/")[2])

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
        """Add a volume; `details` are `region` and `properties` (its defaults for exports)."""
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
        """Add a user and return the token; the user may "write" everywhere, only "read", or access nothing ("none")."""
        return self.platform.add_user(username, access=access).token

    def put_object(self, volume_id: str, location: str, data: bytes) -> None:
        """Write an object directly, without an export."""
        volume = self.platform.volumes[volume_id]
        self.platform.storage.write(volume.bucket, self.platform.key(volume, location), data)

    def object_bytes(self, volume_id: str, location: str) -> bytes:
        """Return an object's bytes.

        :raises FileNotFoundError: there is no such object.
        """
        volume = self.platform.volumes[volume_id]
        return self.platform.storage.read(volume.bucket, self.platform.key(volume, location))

    def object_url(self, volume_id: str, location: str) -> str:
        """Return the fsspec URL with which programs on this machine can read the object."""
        volume = self.platform.volumes[volume_id]
        return self.platform.storage.object_url(volume.bucket, self.platform.key(volume, location))

    def add_app(
        self,
        name: str,
        run: Callable[[dict[str, Any]], Mapping[str, Any]],
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        project: str = PROJECT,
        revision: int = 0,
    ) -> App:
        """Add an app that is a Python function, or a newer revision of it.

        :param run: called with the inputs by port, in a thread; it returns the outputs by port. Files are `InputFile`
            and `OutputFile`, and folders `InputFolder` and `OutputFolder`, of `emulator.apps`. If it raises an
            exception, the task fails with its text.
        :param inputs: the CWL type of each input port, such as `File[]`, or `{"type": ..., "default": ...}`.
        :param outputs: the CWL type of each output port.
        """
        if project not in self.platform.projects:
            self.platform.add_project(project)
        app = make_app(f"{project}/{name}", run, inputs, outputs, revision)
        self.platform.add_app(app)
        return app

    def file_bytes(self, file_id: str) -> bytes:
        """Return the bytes of a file, also of an alias.

        :raises FileNotFoundError: there are none.
        """
        return self.platform.file_bytes(self.platform.files[file_id])

    @property
    def requests(self) -> list[RequestRecord]:
        """All requests received so far, including those that were rejected or affected by a fault."""
        return list(self._server.requests) if self._server else []

    @property
    def exports(self) -> list[ExportJob]:
        """All jobs accepted so far, oldest first, including those whose response was lost."""
        return list(self.platform.exports.values())

    @property
    def tasks(self) -> list[Task]:
        """All tasks so far, oldest first, with drafts and the children of batches."""
        return list(self.platform.tasks.values())

    # Faults and callbacks

    def trouble(
        self,
        kind: str,
        method: str | None = None,
        path: str | None = None,
        times: int = 1,
        after: int = 0,
        **options: Any,
    ) -> Fault:
        """Inject a fault; see `Faults.add` and `KINDS`."""
        return self.troubles.add(kind, method, path, times, after, **options)

    def release(self, job_id: str) -> None:
        """Release an export or a task that a `job_stuck` fault holds."""
        self.platform.release(job_id)
        if self._server:
            self._server.jobs.wake()

    def on(self, event: Event, callback: Listener) -> None:
        """Register a callback, which runs in the server's thread and blocks it.

        :param event: "request": when a request is received, before it is processed. "accepted": when the exports of
            a submission are accepted, or a task is created or run, before the response.
        :param callback: called with the request's record; if it returns False, the connection is cut.
        """
        self._listeners[event].append(callback)

    def _notify(self, event: Event, record: RequestRecord) -> bool:
        answers = []
        for callback in list(self._listeners[event]):
            try:
                answers.append(callback(record))
            except Exception:
                log.exception("The callback for the event %r failed.", event)
        return False not in answers
