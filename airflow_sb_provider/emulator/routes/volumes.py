"""Routes that list and get volumes and their objects."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from aiohttp import web

from airflow_sb_provider.emulator.errors import ApiError
from airflow_sb_provider.emulator.records import current_user
from airflow_sb_provider.emulator.routes.base import Json, Routes, owned_id
from airflow_sb_provider.emulator.serializers import select


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
        stored = await asyncio.to_thread(self.platform.object_of, volume, location)
        return self.single(request, self.serializer(request).stored_object(volume, location, stored))

    async def _list_volume(self, request: web.Request) -> web.Response:
        """List one level of a volume. Unlike all other lists, it has no total, and its link is `{"next": url}`."""
        volume = self.platform.volume(current_user(), owned_id(request))
        if not volume.active:
            raise ApiError(9069)
        prefix, limit = request.query.get("prefix", ""), self.limit(request)
        after = request.query.get("continuation_token", "")
        root = self.platform.key(volume, "")
        objects = await asyncio.to_thread(self.platform.objects, volume, root + prefix)
        serializer, entries = self.serializer(request), dict[str, Json]()
        for stored in objects:
            location = stored.key.removeprefix(root)
            head, slash, _ = location.removeprefix(prefix).partition("/")
            if slash:
                deeper = f"{prefix}{head}/"
                href = f"{request.url.origin()}/v2/storage/volumes/{volume.id}/list?prefix={quote(deeper, safe='')}"
                entries[deeper] = {"href": href, "prefix": deeper, "volume": volume.id}
            else:
                entries[location] = serializer.stored_object(volume, location, stored)
        names = sorted(name for name in entries if name > after)
        shown, truncated = [entries[name] for name in names[:limit]], len(names) > limit
        links = [{"next": str(request.url.update_query(continuation_token=names[limit - 1]))}] if truncated else []
        fields = request.query.get("fields")
        body = {
            "href": str(request.url),
            "prefix": prefix,
            "limit": limit,
            "truncated": truncated,
            "items": [select(entry, fields) for entry in shown if "prefix" not in entry],
            "prefixes": [entry for entry in shown if "prefix" in entry],
            "links": links,
        }
        return web.json_response(body)
