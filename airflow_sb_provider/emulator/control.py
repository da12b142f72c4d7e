"""The control API under /_local, with which other processes inspect the local Platform and set its knobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_sb_provider.emulator.faults import Faults
    from airflow_sb_provider.emulator.platform import Platform
    from airflow_sb_provider.emulator.server import Server

Json = dict[str, Any]


class Control:
    """Routes that need no token; `guard.py` decides who may use them.

    :param fill: adds the initial contents to an empty platform, for a reset.
    """

    def __init__(self, server: Server, faults: Faults, fill: Callable[[Platform], None]) -> None:
        self._fill = fill
        self._server = server
        self._platform = server.platform
        self._faults = faults

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.add_routes(
            [
                web.get("/_local/state", self._json_handler(self._state)),
                web.post("/_local/reset", self._json_handler(self._reset)),
                web.get("/_local/requests", self._json_handler(self._requests)),
                web.get("/_local/knobs", self._json_handler(self._knobs)),
                web.post("/_local/knobs", self._json_handler(self._set_knobs)),
                web.post("/_local/trouble", self._json_handler(self._add_fault)),
                web.post("/_local/trouble/clear", self._json_handler(self._clear_faults)),
                web.post("/_local/{kind:exports|tasks}/{id}/release", self._json_handler(self._release)),
            ]
        )

    def _json_handler(self, handle: Callable[[web.Request], Awaitable[Json]]) -> Callable[..., Awaitable[web.Response]]:
        async def handler(request: web.Request) -> web.Response:
            try:
                return web.json_response(await handle(request))
            except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
                return web.json_response({"error": str(error)}, status=400)

        return handler

    async def _state(self, request: web.Request) -> Json:
        platform = self._platform
        return {
            "storage": platform.storage.url,
            "requests": len(self._server.requests),
            "exports": [
                {
                    "id": job.id,
                    "state": job.state,
                    "file": job.file,
                    "volume": job.volume,
                    "location": job.location,
                    "copy_only": job.copy_only,
                    "overwrite": job.overwrite,
                    "username": job.username,
                    "reply_lost": job.reply_lost,
                    "error": job.error.as_json() if job.error else None,
                }
                for job in list(platform.exports.values())
            ],
            "tasks": [
                {
                    "id": task.id,
                    "status": task.state,
                    "name": task.name,
                    "project": task.project,
                    "app": task.app.id,
                    "parent": task.parent,
                    "username": task.username,
                    "reply_lost": task.reply_lost,
                    "error": task.error.message if task.error else None,
                }
                for task in list(platform.tasks.values())
            ],
            "apps": [app.id for revisions in list(platform.apps.values()) for app in revisions[-1:]],
            "files": [
                {"id": file.id, "name": file.name, "project": file.project, "size": file.size, "alias": file.alias}
                for file in list(platform.files.values())
                if file.type == "file"
            ],
            "volumes": [
                {"id": volume.id, "bucket": volume.bucket, "prefix": volume.prefix, "access_mode": volume.access_mode}
                for volume in list(platform.volumes.values())
            ],
        }

    async def _reset(self, request: web.Request) -> Json:
        """Restore the initial contents; users, knobs and faults stay."""
        await self._server.reset(self._fill)
        return await self._state(request)

    async def _requests(self, request: web.Request) -> Json:
        return {"requests": [record.as_json() for record in list(self._server.requests)]}

    async def _knobs(self, request: web.Request) -> Json:
        return self._platform.knobs.as_json()

    async def _set_knobs(self, request: web.Request) -> Json:
        self._platform.knobs.update(**await request.json())
        return self._platform.knobs.as_json()

    async def _add_fault(self, request: web.Request) -> Json:
        return vars(self._faults.add(**await request.json()))

    async def _clear_faults(self, request: web.Request) -> Json:
        self._faults.clear()
        return {}

    async def _release(self, request: web.Request) -> Json:
        job = self._platform.release(request.match_info["id"])
        self._server.jobs.wake()
        return {"id": job.id, "state": job.state}
