"""The Platform's API v2 over HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from airflow_sb_provider.emulator.export_runs import ExportRuns
from airflow_sb_provider.emulator.guard import add_headers, guard
from airflow_sb_provider.emulator.jobs import Jobs
from airflow_sb_provider.emulator.middleware import ApiMiddleware
from airflow_sb_provider.emulator.pages import Pages
from airflow_sb_provider.emulator.rate_limit import RateLimit
from airflow_sb_provider.emulator.routes.account import Account
from airflow_sb_provider.emulator.routes.apps import AppRoutes
from airflow_sb_provider.emulator.routes.exports import Exports
from airflow_sb_provider.emulator.routes.files import Files
from airflow_sb_provider.emulator.routes.imports import Imports
from airflow_sb_provider.emulator.routes.tasks import TaskRoutes
from airflow_sb_provider.emulator.routes.volumes import Volumes
from airflow_sb_provider.emulator.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_sb_provider.emulator.faults import Faults
    from airflow_sb_provider.emulator.middleware import Notify
    from airflow_sb_provider.emulator.platform import Platform
    from airflow_sb_provider.emulator.records import RequestRecord

MAX_BODY = 4 << 20


class Server:
    """Serves the API; call every method in the server's event loop.

    :param platform: the contents that it serves.
    :param faults: the injected faults.
    :param notify: called with an event and the record of its request; if it returns False, the connection is cut.
    """

    def __init__(self, platform: Platform, faults: Faults, notify: Notify) -> None:
        self.platform = platform
        self.jobs = Jobs(platform.knobs)
        self._faults = faults
        self._rate_limit = RateLimit(platform)
        self._middleware = ApiMiddleware(platform, self._rate_limit, faults, notify)

    @property
    def requests(self) -> list[RequestRecord]:
        """All requests received so far."""
        return self._middleware.requests

    def application(self) -> web.Application:
        """Return the aiohttp application, without the control API of `control.py`."""
        app = web.Application(middlewares=[guard, self._middleware.handle], client_max_size=MAX_BODY)
        app.on_response_prepare.extend([add_headers, self._middleware.set_date])
        tasks = Tasks(self.platform)
        Account(self.platform, self._rate_limit).add_to(app)
        AppRoutes(self.platform, tasks).add_to(app)
        Exports(self.platform, ExportRuns(self.platform, self.jobs), self._faults).add_to(app)
        Files(self.platform).add_to(app)
        Imports(self.platform).add_to(app)
        TaskRoutes(self.platform, tasks, self.jobs, self._faults).add_to(app)
        Volumes(self.platform).add_to(app)
        Pages(self.platform).add_to(app)
        return app

    async def reset(self, fill: Callable[[Platform], None]) -> None:
        """Cancel all jobs, remove all contents but users, and let `fill` add new ones."""
        await self.jobs.stop()
        await asyncio.to_thread(self.platform.clear)
        await asyncio.to_thread(fill, self.platform)

    async def stop(self) -> None:
        """Cancel jobs and late requests."""
        self._middleware.stop()
        await self.jobs.stop()
