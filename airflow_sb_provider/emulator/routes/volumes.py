"""Routes that list and get volumes and their objects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from airflow_sb_provider.emulator.errors import ApiError
from airflow_sb_provider.emulator.records import current_user
from airflow_sb_provider.emulator.routes.base import Json, Routes, owned_id
from airflow_sb_provider.emulator.serializers import select

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.storage import StoredObject


class Volumes(Routes):
    """Volumes and their objects."""

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.add_routes(
            [
                web.get("/v2/storage/volumes", self._list_volumes),
                web.get("/v2/storage/volumes/{owner}/{name}", self._get_volume),
                web.get("/v2/storage/volumes/{owner}/{name}/list", self._list_volume),
                web.get("/v2/storage/volumes/{owner}/{name}/object", self._get_object),
            ]
        )

    async def _list_volumes(self, request: web.Request) -> web.Response:
        user = current_user()
        volumes = [] if user.access == "none" else list(self.platform.volumes.values())
        return self.page(request, "volume", volumes, self.serializer(request).volume)

    async def _get_volume(self, request: web.Request) -> web.Response:
        volume = self.platform.volume(current_user(), owned_id(request))
        return self.single(request, self.serializer(request).volume(volume))

    async def _get_object(self, request: web.Request) -> web.Response:
        volume = self.platform.volume(current_user(), owned_id(request))
        location = request.query.get("location")
        if not location:
            raise ApiError(9011)
        serializer = self.serializer(request)

        def read() -> Json:
            return serializer.stored_object(volume, location, self.platform.object_of(volume, location))

        return self.single(request, await asyncio.to_thread(read))

    async def _list_volume(self, request: web.Request) -> web.Response:
        """List one level of a volume. Unlike all other lists, it has no total, and its link is `{"next": url}`."""
        volume = self.platform.volume(current_user(), owned_id(request))
        if not volume.active:
            raise ApiError(9069)
        prefix, limit = request.query.get("prefix", ""), self.limit(request)
        after = request.query.get("continuation_token", "")
        root = self.platform.key(volume, "")
        serializer, fields = self.serializer(request), request.query.get("fields")

        def read() -> tuple[list[str], list[Json], list[Json]]:
            # By location, or by the prefix of a folder, which stands for all objects below it.
            objects: dict[str, StoredObject | None] = {}
            for stored in self.platform.objects(volume, root + prefix):
                location = stored.key.removeprefix(root)
                head, slash, _ = location.removeprefix(prefix).partition("/")
                if slash and not self.knobs.volume_list_recursive:
                    objects[f"{prefix}{head}/"] = None
                else:
                    objects[location] = stored
            names = sorted(name for name in objects if name > after)
            shown = [(name, objects[name]) for name in names[:limit]]
            items = [select(serializer.stored_object(volume, name, each), fields) for name, each in shown if each]
            return names, items, [serializer.folder(volume, name) for name, each in shown if not each]

        names, items, prefixes = await asyncio.to_thread(read)
        truncated = len(names) > limit
        links = [{"next": str(request.url.update_query(continuation_token=names[limit - 1]))}] if truncated else []
        body = {
            "href": str(request.url),
            "prefix": prefix,
            "limit": limit,
            "truncated": truncated,
            "items": items,
            "prefixes": prefixes,
            "links": links,
        }
        return web.json_response(body)
