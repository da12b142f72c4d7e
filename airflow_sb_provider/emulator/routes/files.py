"""Files and folders: list, get."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from airflow_sb_provider.emulator.errors import Refusal
from airflow_sb_provider.emulator.records import current_user
from airflow_sb_provider.emulator.routes.base import Routes

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.platform import File

_NO_FILTERS = {"project", "parent", "fields", "offset", "limit"}


class Files(Routes):
    """Files and folders."""

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.add_routes(
            [
                web.get("/v2/files", self._list_files),
                web.get("/v2/files/{id}", self._get_file),
                web.get("/v2/files/{id}/list", self._list_folder),
                web.post("/v2/bulk/files/get", self._bulk_get_files),
            ]
        )

    async def _list_files(self, request: web.Request) -> web.Response:
        query = request.query
        project_id, parent = query.get("project"), query.get("parent")
        if project_id and parent:
            raise Refusal(5031)
        if not (project_id or parent):
            raise Refusal(5029)
        if project_id:
            if "/" not in project_id:
                raise Refusal(5005)
            parent = self.platform.project(current_user(), project_id).root_folder
        return self._folder(request, str(parent))

    async def _list_folder(self, request: web.Request) -> web.Response:
        return self._folder(request, request.match_info["id"])

    def _folder(self, request: web.Request, folder_id: str) -> web.Response:
        folder = self.platform.file(current_user(), folder_id)
        if folder.type != "folder":
            raise Refusal(5022)
        found = self.platform.children(folder)
        # Repeats of one filter are alternatives, different ones must all hold.
        for name in set(request.query) - _NO_FILTERS:
            wanted = set(request.query.getall(name))
            found = [file for file in found if _fits(file, name, wanted)]
        return self.page(request, "file", list(map(self.platform.shown, found)), self.views(request).file)

    async def _get_file(self, request: web.Request) -> web.Response:
        file = self.platform.file(current_user(), request.match_info["id"])
        return self.one(request, self.views(request).file(self.platform.shown(file)))

    async def _bulk_get_files(self, request: web.Request) -> web.Response:
        platform, view, user = self.platform, self.views(request).file, current_user()
        ids = self.bulk(request, "file_ids")
        items = self.each(ids, lambda each: view(platform.shown(platform.file(user, str(each)))))
        return web.json_response({"items": items})


def _fits(file: File, filter_: str, wanted: set[str]) -> bool:
    """Whether a file has one of the requested values; a query that is no filter fits every file."""
    if filter_ == "name":
        return file.name in wanted
    if filter_ == "tag":
        return not wanted.isdisjoint(file.tags)
    if filter_ == "origin.task":
        return file.task in wanted
    if filter_.startswith("metadata."):
        return str(file.metadata.get(filter_.removeprefix("metadata."))) in wanted
    return True
