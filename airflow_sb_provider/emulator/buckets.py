"""Serves the buckets to S3 clients, so that a DAG's next task can open ``s3://bucket/key`` without a cloud account."""

from __future__ import annotations

import asyncio
import re
from email.utils import format_datetime
from typing import TYPE_CHECKING

from aiohttp import web

from airflow_sb_provider.emulator.guard import LOCAL

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.storage import Storage

PATH = f"{LOCAL}/s3"
_RANGE = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")


class Buckets:
    """GET and HEAD of an object, with path-style URLs. Signatures are not checked.

    :param storage: holds the objects.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def add_to(self, app: web.Application) -> None:
        """Add the route."""
        app.router.add_get(PATH + "/{bucket}/{key:.+}", self._get)

    async def _get(self, request: web.Request) -> web.Response:
        bucket, key = request.match_info["bucket"], request.match_info["key"]
        stored = await asyncio.to_thread(self._storage.stat, bucket, key)
        if stored is None:
            body = "" if request.method == "HEAD" else "<Error><Code>NoSuchKey</Code></Error>"
            return web.Response(status=404, text=body, content_type="application/xml")
        headers = {
            "ETag": f'"{stored.etag}"',
            "Last-Modified": format_datetime(stored.modified, usegmt=True),
            "Accept-Ranges": "bytes",
        }
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(stored.size)})
        return respond_with(request, await asyncio.to_thread(self._storage.read, bucket, key), headers)


def respond_with(request: web.Request, data: bytes, headers: dict[str, str]) -> web.Response:
    """Respond with the part of the data that the request's `Range` names, by default with all."""
    if part := _RANGE.fullmatch(request.headers.get("Range", "")):
        start, end = int(part[1]), min(int(part[2] or len(data)), len(data) - 1)
        if start > end:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
        headers = {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"}
        return web.Response(status=206, body=data[start : end + 1], headers=headers)
    return web.Response(body=data, headers=headers)
