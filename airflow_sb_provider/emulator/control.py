"""The control API under /_local: what tests and demos in other processes may look at and turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_sb_provider.emulator.faults import Faults
    from airflow_sb_provider.emulator.server import Server

Json = dict[str, Any]


class Control:
    """Routes without a token; `guard.py` decides who may use them."""

    def __init__(self, server: Server, troubles: Faults) -> None:
        self._server = server
        self._platform = server.platform
        self._troubles = troubles

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.add_routes(
            [
                web.get("/_local/state", self._answered(self._state)),
                web.get("/_local/requests", self._answered(self._requests)),
                web.get("/_local/knobs", self._answered(self._knobs)),
                web.post("/_local/knobs", self._answered(self._turn)),
                web.post("/_local/trouble", self._answered(self._make_trouble)),
                web.post("/_local/trouble/clear", self._answered(self._clear_trouble)),
                web.post("/_local/exports/{id}/release", self._answered(self._release)),
            ]
        )

    def _answered(self, answer: Callable[[web.Request], Awaitable[Json]]) -> Callable[..., Awaitable[web.Response]]:
        async def handler(request: web.Request) -> web.Response:
            try:
                return web.json_response(await answer(request))
            except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as wrong:
                return web.json_response({"error": str(wrong)}, status=400)

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

    async def _requests(self, request: web.Request) -> Json:
        return {"requests": [record.as_json() for record in list(self._server.requests)]}

    async def _knobs(self, request: web.Request) -> Json:
        return self._platform.knobs.as_json()

    async def _turn(self, request: web.Request) -> Json:
        self._platform.knobs.update(**await request.json())
        return self._platform.knobs.as_json()

    async def _make_trouble(self, request: web.Request) -> Json:
        return vars(self._troubles.add(**await request.json()))

    async def _clear_trouble(self, request: web.Request) -> Json:
        self._troubles.clear()
        return {}

    async def _release(self, request: web.Request) -> Json:
        job = self._platform.exports[request.match_info["id"]]
        job.held = None
        self._server.jobs.wake()
        return {"id": job.id, "state": job.state}
