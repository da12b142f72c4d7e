"""Export jobs: start, list, get."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from airflow_sb_provider.emulator.errors import Refusal
from airflow_sb_provider.emulator.records import answering, current_user
from airflow_sb_provider.emulator.routes.base import Routes, flag

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.faults import Faults
    from airflow_sb_provider.emulator.jobs import Jobs
    from airflow_sb_provider.emulator.platform import ExportJob, Platform
    from airflow_sb_provider.emulator.records import RequestRecord


class Exports(Routes):
    """Export jobs."""

    def __init__(self, platform: Platform, jobs: Jobs, troubles: Faults) -> None:
        super().__init__(platform)
        self._jobs = jobs
        self._troubles = troubles

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.add_routes(
            [
                web.post("/v2/storage/exports", self._start_export),
                web.get("/v2/storage/exports", self._list_exports),
                web.get("/v2/storage/exports/{id}", self._get_export),
                web.post("/v2/bulk/storage/exports/create", self._bulk_start),
                web.post("/v2/bulk/storage/exports/get", self._bulk_get_exports),
                web.post("/v2/bulk/storage/export/get", self._bulk_get_exports),
            ]
        )

    async def _start_export(self, request: web.Request) -> web.Response:
        record = answering.get()
        if not isinstance(record.json, dict):
            raise Refusal(9011)
        copy_only, overwrite = flag(request, "copy_only"), flag(request, "overwrite")
        user = current_user()
        job = await asyncio.to_thread(self.platform.submit, user, record.json, copy_only, overwrite)
        await self._accept([job], record)
        return self.one(request, self.views(request).export(job), self.knobs.created_status)

    async def _bulk_start(self, request: web.Request) -> web.Response:
        items, copy_only = self.bulk(request, "items"), flag(request, "copy_only")
        user, record = current_user(), answering.get()
        outcomes: list[ExportJob | Refusal] = []

        def submit_all() -> None:
            for item in items:
                try:
                    outcomes.append(self.platform.submit(user, item, copy_only))
                except Refusal as refusal:
                    outcomes.append(refusal)

        await asyncio.to_thread(submit_all)
        await self._accept([each for each in outcomes if not isinstance(each, Refusal)], record)
        view = self.views(request).export
        answers = [
            {"error": each.as_json(self.knobs.code_type)} if isinstance(each, Refusal) else {"resource": view(each)}
            for each in outcomes
        ]
        return web.json_response({"items": answers}, status=self.knobs.created_status)

    async def _accept(self, jobs: list[ExportJob], record: RequestRecord) -> None:
        for job in jobs:
            for trouble in self._troubles.for_job():
                if trouble.kind == "job_stuck":
                    job.held = trouble.options["state"]
                else:
                    job.fail_with = Refusal(int(trouble.options["code"]), trouble.options["message"])
                    job.fail_as = str(trouble.options["state"])
        record.exports += [job.id for job in jobs]
        tasks = [self._jobs.start(job) for job in jobs]
        if self.knobs.instant and tasks:
            await asyncio.wait(tasks)

    async def _list_exports(self, request: web.Request) -> web.Response:
        query = request.query
        found = self.platform.jobs(current_user(), query.get("volume"), query.getall("state", []))
        return self.page(request, "export", found, self.views(request).export, lies=self.knobs.total_lies)

    async def _get_export(self, request: web.Request) -> web.Response:
        job = self.platform.job(current_user(), request.match_info["id"])
        return self.one(request, self.views(request).export(job))

    async def _bulk_get_exports(self, request: web.Request) -> web.Response:
        view, user = self.views(request).export, current_user()
        ids = self.bulk(request, "export_ids")
        return web.json_response({"items": self.each(ids, lambda each: view(self.platform.job(user, str(each))))})
