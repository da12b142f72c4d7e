"""Routes that start, list and get export jobs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from airflow_sb_provider.emulator.errors import ApiError
from airflow_sb_provider.emulator.records import current_record, current_user
from airflow_sb_provider.emulator.routes.base import Routes, flag

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.export_runs import ExportRuns
    from airflow_sb_provider.emulator.faults import Faults
    from airflow_sb_provider.emulator.platform import ExportJob, Platform
    from airflow_sb_provider.emulator.records import RequestRecord


class Exports(Routes):
    """Export jobs."""

    def __init__(self, platform: Platform, runs: ExportRuns, faults: Faults) -> None:
        super().__init__(platform)
        self._runs = runs
        self._faults = faults

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
        record = current_record.get()
        if not isinstance(record.json, dict):
            raise ApiError(9011)
        copy_only, overwrite = flag(request, "copy_only"), flag(request, "overwrite")
        user = current_user()
        job = await asyncio.to_thread(self.platform.submit, user, record.json, copy_only, overwrite)
        await self._accept([job], record)
        return self.single(request, self.serializer(request).export(job), self.knobs.created_status)

    async def _bulk_start(self, request: web.Request) -> web.Response:
        items, copy_only = self.bulk_items(request, "items"), flag(request, "copy_only")
        user, record = current_user(), current_record.get()
        outcomes: list[ExportJob | ApiError] = []

        def submit_all() -> None:
            for item in items:
                try:
                    outcomes.append(self.platform.submit(user, item, copy_only))
                except ApiError as error:
                    outcomes.append(error)

        await asyncio.to_thread(submit_all)
        await self._accept([outcome for outcome in outcomes if not isinstance(outcome, ApiError)], record)
        serialize = self.serializer(request).export
        answers = [
            {"error": outcome.as_json(self.knobs.code_type)}
            if isinstance(outcome, ApiError)
            else {"resource": serialize(outcome)}
            for outcome in outcomes
        ]
        return web.json_response({"items": answers}, status=self.knobs.created_status)

    async def _accept(self, jobs: list[ExportJob], record: RequestRecord) -> None:
        for job in jobs:
            self._faults.apply_to(job, record.path)
        record.exports += [job.id for job in jobs]
        tasks = [self._runs.start(job) for job in jobs]
        if self.knobs.instant and tasks:
            await asyncio.wait(tasks)

    async def _list_exports(self, request: web.Request) -> web.Response:
        query = request.query
        jobs = self.platform.jobs(current_user(), query.get("volume"), query.getall("state", []))
        return self.page(request, "export", jobs, self.serializer(request).export, wrong_total=self.knobs.total_lies)

    async def _get_export(self, request: web.Request) -> web.Response:
        job = self.platform.job(current_user(), request.match_info["id"])
        return self.single(request, self.serializer(request).export(job))

    async def _bulk_get_exports(self, request: web.Request) -> web.Response:
        serialize, user = self.serializer(request).export, current_user()
        ids = self.bulk_items(request, "export_ids")
        answers = self.bulk_answers(ids, lambda job_id: serialize(self.platform.job(user, str(job_id))))
        return web.json_response({"items": answers})
