"""Reading the buckets as S3 clients do, so that a DAG's next task can open ``s3://bucket/key`` with no cloud at all."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from email.utils import format_datetime
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.storage import Storage

PATH = "/_local/s3"


class Buckets:
    """GET and HEAD of an object, path style; for callers on this machine; signatures are not checked.

    :param storage: where the objects are.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def add_to(self, app: web.Application) -> None:
        """Add the route."""
        app.router.add_get(PATH + "/{bucket}/{key:.+}", self._get)

    async def _get(self, request: web.Request) -> web.Response:
        if not ipaddress.ip_address(request.remote or "0.0.0.0").is_loopback:  # noqa: S104
            return web.Response(status=403)
        bucket, key = request.match_info["bucket"], request.match_info["key"]
        found = await asyncio.to_thread(self._storage.look, bucket, key)
        if found is None:
            body = "" if request.method == "HEAD" else "<Error><Code>NoSuchKey</Code></Error>"
            return web.Response(status=404, text=body, content_type="application/xml")
        headers = {
            "ETag": f'"{found.etag}"',
            "Last-Modified": format_datetime(found.modified, usegmt=True),
            "Accept-Ranges": "bytes",
        }
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(found.size)})
        data = await asyncio.to_thread(self._storage.read, bucket, key)
        if part := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")):
            first, last = int(part[1]), min(int(part[2] or found.size), found.size - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{found.size}"
            return web.Response(status=206, body=data[first : last + 1], headers=headers)
        return web.Response(body=data, headers=headers)
