"""Routes of the user, the rate limit and the user's projects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from airflow_sb_provider.emulator.records import current_user
from airflow_sb_provider.emulator.routes.base import Routes, owned_id

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.platform import Platform
    from airflow_sb_provider.emulator.rate_limit import RateLimit


class Account(Routes):
    """The user, the rate limit and the user's projects."""

    def __init__(self, platform: Platform, limits: RateLimit) -> None:
        super().__init__(platform)
        self._limits = limits

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.add_routes(
            [
                web.get("/", self._links),
                web.get("/v2", self._links),
                web.get("/v2/", self._links),
                web.get("/v2/user", self._user),
                web.get("/v2/rate_limit", self._rate_limit),
                web.get("/v2/projects", self._list_projects),
                web.get("/v2/projects/", self._list_projects),
                web.get("/v2/projects/{owner}", self._list_projects),
                web.get("/v2/projects/{owner}/{name}", self._get_project),
            ]
        )

    async def _links(self, request: web.Request) -> web.Response:
        base = f"{request.url.origin()}/v2"
        names = ("rate_limit", "user", "users", "billing", "projects", "files", "tasks", "apps", "storage")
        return web.json_response({f"{name}_url": f"{base}/{name}" for name in (*names, "action", "upload")})

    async def _user(self, request: web.Request) -> web.Response:
        return self.single(request, self.serializer(request).user(current_user()))

    async def _rate_limit(self, request: web.Request) -> web.Response:
        window = self._limits.window(current_user().token)
        rate = {"limit": self.knobs.rate_limit, "remaining": self._limits.remaining(window), "reset": window.reset}
        instances = {"limit": -1, "remaining": 2**63 - 1}
        if self.knobs.queue_reason == "account_limit":
            instances = {"limit": 1, "remaining": 0}
        return self.single(request, {"rate": rate, "instance_limit": instances})

    async def _list_projects(self, request: web.Request) -> web.Response:
        user = current_user()
        projects = [] if user.access == "none" else list(self.platform.projects.values())
        if owner := request.match_info.get("owner"):
            projects = [project for project in projects if project.id.startswith(f"{owner}/")]
        return self.page(request, "project", projects, self.serializer(request).project)

    async def _get_project(self, request: web.Request) -> web.Response:
        project = self.platform.project(current_user(), owned_id(request))
        return self.single(request, self.serializer(request).project(project))
