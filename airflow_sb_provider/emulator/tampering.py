"""Answers that are spoiled on their way, and connections that break."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from airflow_sb_provider.emulator.serializers import select

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_sb_provider.emulator.faults import Fault

Json = dict[str, Any]


def cut_connection(request: web.Request) -> web.Response:
    """End the connection; the response that is returned reaches nobody."""
    if request.transport:
        request.transport.abort()
    return web.Response()


async def cut_body(request: web.Request, whole: web.Response, cut: Fault) -> web.StreamResponse:
    """Send the part of a body that a `cut_json` lets through."""
    body = whole.body
    if not isinstance(body, bytes):
        return whole
    kept = body[: int(len(body) * float(cut.options["keep"]))]
    if not cut.options["connection"]:
        whole.body = kept
        return whole
    broken = web.StreamResponse(status=whole.status, headers=whole.headers)
    broken.content_length = len(body)
    await broken.prepare(request)
    await broken.write(kept)
    if request.transport:
        request.transport.close()
    return broken


def gateway_page(
    status: int, body: str | None = None, content_type: str = "text/html; charset=utf-8", done: bool = False
) -> web.Response:
    """An answer of something before the Platform; `done` is not for it."""
    if body is None:
        body = f"<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center>nginx</body></html>"
    return web.Response(status=int(status), body=body.encode(), headers={"Content-Type": content_type})


def tampered(response: web.Response, struck: dict[str, Fault]) -> web.Response:
    """The answer to a bulk call, with what its troubles do to the items."""
    kinds = {"short_bulk", "long_bulk", "swapped_bulk", "brief_bulk", "spoiled_bulk"}
    if not kinds & struck.keys() or not response.text:
        return response
    items = json.loads(response.text).get("items", [])
    if "short_bulk" in struck:
        items = items[:-1]
    if "long_bulk" in struck:
        items += items[-1:]
    if "swapped_bulk" in struck:
        items[:2] = items[1::-1]
    if brief := struck.get("brief_bulk"):
        items = [_brief(item) for item in items]
        if brief.options["shuffled"]:
            items.reverse()
    if spoiled := struck.get("spoiled_bulk"):
        items = list(_spoil(items, str(spoiled.options["ids"]).split(), str(spoiled.options["how"])))
    return web.json_response({"items": items}, status=response.status)


def names_one(body: Any, spoiled: Fault) -> bool:
    """Whether a bulk call asks about one of the ids of a `spoiled_bulk`."""
    requested = {each for ids in body.values() for each in ids}
    return not requested.isdisjoint(str(spoiled.options["ids"]).split())


def _brief(item: Json) -> Json:
    return {"resource": select(item["resource"], "href,id,state")} if "resource" in item else item


def _spoil(items: list[Any], ids: list[str], how: str) -> Iterator[Any]:
    for item in items:
        if item.get("resource", {}).get("id") not in ids:
            yield item
        elif how == "null":
            yield None
        elif how == "stateless":
            yield {"resource": {**item["resource"], "state": None}}
        elif how == "nul":
            yield {"resource": {**item["resource"], "source": {"file": "\x00"}}}
