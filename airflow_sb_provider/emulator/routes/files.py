"""Routes that list, get and download files and folders."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from airflow_sb_provider.emulator.buckets import respond_with
from airflow_sb_provider.emulator.errors import ApiError
from airflow_sb_provider.emulator.guard import LOCAL
from airflow_sb_provider.emulator.platform import now
from airflow_sb_provider.emulator.records import current_user
from airflow_sb_provider.emulator.routes.base import Routes

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.platform import File

_NOT_FILTERS = {"project", "parent", "fields", "offset", "limit"}


class Files(Routes):
    """Files and folders."""

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.add_routes(
            [
                web.get("/v2/files", self._list_files),
                web.get("/v2/files/{id}", self._get_file),
                web.get("/v2/files/{id}/list", self._list_folder),
                web.get("/v2/files/{id}/download_info", self._get_download_info),
                web.get(LOCAL + "/files/{id}", self._download),
                web.post("/v2/bulk/files/get", self._bulk_get_files),
                web.post("/v2/bulk/files/edit", self._bulk_edit_files),
            ]
        )

    async def _list_files(self, request: web.Request) -> web.Response:
        query = request.query
        project_id, parent = query.get("project"), query.get("parent")
        if project_id and parent:
            raise ApiError(5031)
        if not (project_id or parent):
            raise ApiError(5029)
        if project_id:
            if "/" not in project_id:
                raise ApiError(5005)
            parent = self.platform.project(current_user(), project_id).root_folder
        return self._folder(request, str(parent))

    async def _list_folder(self, request: web.Request) -> web.Response:
        return self._folder(request, request.match_info["id"])

    def _folder(self, request: web.Request, folder_id: str) -> web.Response:
        folder = self.platform.file(current_user(), folder_id)
        if folder.type != "folder":
            raise ApiError(5022)
        files = self.platform.children(folder)
        # A file must match each filter; the values of a repeated filter are alternatives.
        for name in set(request.query) - _NOT_FILTERS:
            values = set(request.query.getall(name))
            files = [file for file in files if _matches(file, name, values)]
        return self.page(request, "file", list(map(self.platform.as_read, files)), self.serializer(request).file)

    async def _get_file(self, request: web.Request) -> web.Response:
        file = self.platform.file(current_user(), request.match_info["id"])
        return self.single(request, self.serializer(request).file(self.platform.as_read(file)))

    async def _get_download_info(self, request: web.Request) -> web.Response:
        file = self.platform.file(current_user(), request.match_info["id"])
        if file.type == "folder":
            raise ApiError(5017)
        if file.alias and not self.platform.volumes[file.alias[0]].active:
            raise ApiError(5034)
        return self.single(request, {"url": f"{request.url.origin()}{LOCAL}/files/{file.id}"})

    async def _download(self, request: web.Request) -> web.Response:
        """Respond with a file's bytes, without a token: the URL stands for one that is signed."""
        file = self.platform.files.get(request.match_info["id"])
        if file is None or file.type == "folder":
            raise web.HTTPNotFound
        try:
            data = await asyncio.to_thread(self.platform.file_bytes, file)
        except FileNotFoundError:
            raise web.HTTPNotFound from None
        return respond_with(request, data, {"Accept-Ranges": "bytes"})

    async def _bulk_get_files(self, request: web.Request) -> web.Response:
        platform, serialize, user = self.platform, self.serializer(request).file, current_user()
        ids = self.bulk_items(request, "file_ids")
        items = self.bulk_answers(ids, lambda file_id: serialize(platform.as_read(platform.file(user, str(file_id)))))
        return web.json_response({"items": items})

    async def _bulk_edit_files(self, request: web.Request) -> web.Response:
        """Change the name, tags and metadata that an item has; metadata fields that it leaves out stay."""
        platform, serialize, user = self.platform, self.serializer(request).file, current_user()

        def edit(item: Any) -> Any:
            file = platform.file(user, str(item.get("id")))
            if user.access != "write":
                raise ApiError(5001)
            if file.type == "folder":
                raise ApiError(5023)
            file.name = item.get("name", file.name)
            file.tags = tuple(item.get("tags", file.tags))
            file.metadata = {**file.metadata, **item.get("metadata", {})}
            file.modified_on = now()
            return serialize(platform.as_read(file))

        return web.json_response({"items": self.bulk_answers(self.bulk_items(request, "items"), edit)})


def _matches(file: File, filter_: str, values: set[str]) -> bool:
    """Whether a file has one of the requested values; every file matches a parameter that is not a filter."""
    if filter_ == "name":
        return file.name in values
    if filter_ == "tag":
        return not values.isdisjoint(file.tags)
    if filter_ == "origin.task":
        return file.task in values
    if filter_.startswith("metadata."):
        return str(file.metadata.get(filter_.removeprefix("metadata."))) in values
    return True
