"""The Platform's API v2 over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from airflow_sb_provider.emulator.guard import add_headers, guard
from airflow_sb_provider.emulator.jobs import Jobs
from airflow_sb_provider.emulator.middleware import FrontDoor
from airflow_sb_provider.emulator.rate_limit import RateLimit
from airflow_sb_provider.emulator.routes.account import Account
from airflow_sb_provider.emulator.routes.exports import Exports
from airflow_sb_provider.emulator.routes.files import Files
from airflow_sb_provider.emulator.routes.volumes import Volumes

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.faults import Faults
    from airflow_sb_provider.emulator.middleware import Notify
    from airflow_sb_provider.emulator.platform import Platform
    from airflow_sb_provider.emulator.records import RequestRecord

MAX_BODY = 4 << 20


class Server:
    """Answers the API's requests; every method runs in the server's loop.

    :param platform: what it answers about.
    :param troubles: the faults that may strike.
    :param notify: called with an event and the record of its request; False cuts the connection there.
    """

    def __init__(self, platform: Platform, troubles: Faults, notify: Notify) -> None:
        self.platform = platform
        self.jobs = Jobs(platform)
        self._troubles = troubles
        self._rate_limit = RateLimit(platform)
        self._front_door = FrontDoor(platform, self._rate_limit, troubles, notify)

    @property
    def requests(self) -> list[RequestRecord]:
        """All requests received so far."""
        return self._front_door.requests

    def application(self) -> web.Application:
        """The aiohttp application, with the control API of `control.py` still to be added."""
        app = web.Application(middlewares=[guard, self._front_door.answer], client_max_size=MAX_BODY)
        app.on_response_prepare.extend([add_headers, self._front_door.set_date])
        Account(self.platform, self._rate_limit).add_to(app)
        Exports(self.platform, self.jobs, self._troubles).add_to(app)
        Files(self.platform).add_to(app)
        Volumes(self.platform).add_to(app)
        return app

    async def stop(self) -> None:
        """Abandon jobs and late requests."""
        self._front_door.stop()
        await self.jobs.stop()
