"""Routes that list and get apps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from airflow_sb_provider.emulator.records import current_user
from airflow_sb_provider.emulator.routes.base import Routes, owned_id

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.platform import Platform
    from airflow_sb_provider.emulator.tasks import Tasks


class AppRoutes(Routes):
    """Apps and their revisions."""

    def __init__(self, platform: Platform, tasks: Tasks) -> None:
        super().__init__(platform)
        self._tasks = tasks

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.add_routes(
            [
                web.get("/v2/apps", self._list_apps),
                web.get("/v2/apps/{owner}/{name}/{app:.+}", self._get_app),
            ]
        )

    async def _list_apps(self, request: web.Request) -> web.Response:
        user, query = current_user(), request.query
        project = query.get("project")
        if project:
            self.platform.project(user, project)
        apps = [revisions[-1] for revisions in list(self.platform.apps.values())]
        if user.access == "none" or query.get("visibility", "").lower() == "public":
            apps = []
        ids, terms = query.getall("id", []), [term.lower() for term in query.getall("q", [])]
        apps = [
            app
            for app in apps
            if not app.forbidden
            and (not project or app.project == project)
            and (not ids or app.id in ids)
            and all(term in f"{app.id} {app.name}".lower() for term in terms)
        ]
        return self.page(request, "app", apps, self.serializer(request).listed_app)

    async def _get_app(self, request: web.Request) -> web.Response:
        app = self._tasks.app(current_user(), f"{owned_id(request)}/{request.match_info['app']}")
        return self.single(request, self.serializer(request).app(app))
