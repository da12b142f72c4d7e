"""Routes that list and get import jobs; imports are added with `Emulator.add_import`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from airflow_sb_provider.emulator.records import current_user
from airflow_sb_provider.emulator.routes.base import Routes

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.platform import ImportJob


class Imports(Routes):
    """Import jobs."""

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.add_routes(
            [
                web.get("/v2/storage/imports", self._list_imports),
                web.get("/v2/storage/imports/{id}", self._get_import),
            ]
        )

    async def _list_imports(self, request: web.Request) -> web.Response:
        query = request.query
        jobs: list[ImportJob] = self.platform.import_jobs(
            current_user(), query.get("volume"), query.get("project"), query.getall("state", [])
        )
        return self.page(request, "import", jobs, self.serializer(request).import_job)

    async def _get_import(self, request: web.Request) -> web.Response:
        job = self.platform.import_job(current_user(), request.match_info["id"])
        return self.single(request, self.serializer(request).import_job(job))
