"""Routes that create, run, abort, list and get tasks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from airflow_sb_provider.emulator.errors import ApiError
from airflow_sb_provider.emulator.records import current_record, current_user
from airflow_sb_provider.emulator.routes.base import Routes, flag
from airflow_sb_provider.emulator.task_runs import TaskRuns

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.faults import Faults
    from airflow_sb_provider.emulator.jobs import Jobs
    from airflow_sb_provider.emulator.platform import Platform
    from airflow_sb_provider.emulator.tasks import Task, Tasks


class TaskRoutes(Routes):
    """Tasks."""

    def __init__(self, platform: Platform, tasks: Tasks, jobs: Jobs, faults: Faults) -> None:
        super().__init__(platform)
        self._tasks = tasks
        self._jobs = jobs
        self._runs = TaskRuns(tasks, jobs, platform.knobs, faults)

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.add_routes(
            [
                web.post("/v2/tasks", self._create_task),
                web.get("/v2/tasks", self._list_tasks),
                web.get("/v2/tasks/{id}", self._get_task),
                web.patch("/v2/tasks/{id}", self._edit_task),
                web.delete("/v2/tasks/{id}", self._delete_task),
                web.get("/v2/tasks/{id}/inputs", self._get_inputs),
                web.patch("/v2/tasks/{id}/inputs", self._edit_inputs),
                web.get("/v2/tasks/{id}/execution_details", self._get_execution_details),
                web.post("/v2/tasks/{id}/actions/run", self._run_task),
                web.post("/v2/tasks/{id}/actions/abort", self._abort_task),
                web.post("/v2/tasks/{id}/actions/clone", self._clone_task),
                web.post("/v2/bulk/tasks/get", self._bulk_get_tasks),
            ]
        )

    async def _create_task(self, request: web.Request) -> web.Response:
        record, user = current_record.get(), current_user()
        runs, batch = self._runs_at_once(request), flag(request, "batch", True, 90000)
        if not (batch or runs):
            raise ApiError(7021)
        task = self._tasks.create(user, record.json, batch)
        return await self._accept(request, task, runs, self.knobs.created_status)

    async def _clone_task(self, request: web.Request) -> web.Response:
        return await self._accept(
            request, self._tasks.clone(current_user(), self._task(request)), self._runs_at_once(request)
        )

    def _runs_at_once(self, request: web.Request) -> bool:
        action = request.query.get("action")
        if action not in {None, "run"}:
            raise ApiError(7013)
        return action == "run"

    async def _accept(self, request: web.Request, task: Task, runs: bool, status: int = 200) -> web.Response:
        """Respond with a new draft, which runs at once if it is to and has no errors."""
        current_record.get().tasks.append(task.id)
        if runs and not task.errors:
            self._tasks.start(current_user(), task)
            await self._start(task)
        return self.single(request, self.serializer(request).task(task), status)

    async def _run_task(self, request: web.Request) -> web.Response:
        task, interruptible = self._task(request), None
        if "use_interruptible_instances" in request.query:
            interruptible = flag(request, "use_interruptible_instances", malformed=90000)
        self._tasks.start(current_user(), task, flag(request, "batch", True, 90000), interruptible)
        current_record.get().tasks.append(task.id)
        await self._start(task)
        return self.single(request, self.serializer(request).task(task))

    async def _start(self, task: Task) -> None:
        run = self._runs.start(task)
        if self.knobs.instant:
            await asyncio.wait([run])

    async def _abort_task(self, request: web.Request) -> web.Response:
        task = self._task(request)
        self._tasks.abort(current_user(), task)
        self._jobs.wake()
        return self.single(request, self.serializer(request).task(task))

    async def _edit_task(self, request: web.Request) -> web.Response:
        task = self._task(request)
        self._tasks.edit(current_user(), task, current_record.get().json)
        return self.single(request, self.serializer(request).task(task))

    async def _edit_inputs(self, request: web.Request) -> web.Response:
        task, inputs = self._task(request), current_record.get().json
        if not isinstance(inputs, dict):
            raise ApiError(7012)
        self._tasks.edit(current_user(), task, {"inputs": inputs})
        return self.single(request, task.inputs)

    async def _delete_task(self, request: web.Request) -> web.Response:
        self._tasks.delete(current_user(), self._task(request))
        return web.Response(status=204)

    async def _list_tasks(self, request: web.Request) -> web.Response:
        tasks = self._tasks.listed(current_user(), request.query)
        return self.page(
            request,
            "task",
            tasks,
            self.serializer(request).task,
            wrong_total=self.knobs.total_lies,
            always_brief=self.knobs.brief_ignores_fields,
        )

    async def _get_task(self, request: web.Request) -> web.Response:
        return self.single(request, self.serializer(request).task(self._shown(request)))

    async def _get_inputs(self, request: web.Request) -> web.Response:
        return self.single(request, self._shown(request).inputs)

    async def _get_execution_details(self, request: web.Request) -> web.Response:
        return self.single(request, self.serializer(request).execution_details(self._shown(request)))

    async def _bulk_get_tasks(self, request: web.Request) -> web.Response:
        serialize, user = self.serializer(request).task, current_user()
        ids = self.bulk_items(request, "task_ids")
        items = self.bulk_answers(ids, lambda task_id: serialize(self._tasks.shown(user, str(task_id))))
        return web.json_response({"items": items})

    def _shown(self, request: web.Request) -> Task:
        return self._tasks.shown(current_user(), request.match_info["id"])

    def _task(self, request: web.Request) -> Task:
        return self._tasks.get(current_user(), request.match_info["id"])
