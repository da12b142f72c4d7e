"""Changed responses and broken connections."""

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
    """Close the connection; the returned response is never sent."""
    if request.transport:
        request.transport.abort()
    return web.Response()


async def cut_body(request: web.Request, whole: web.Response, cut: Fault) -> web.StreamResponse:
    """Send the part of a body that a `cut_json` fault keeps."""
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
    """Return a gateway's response; `done` is ignored."""
    if body is None:
        body = f"<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center>nginx</body></html>"
    return web.Response(status=int(status), body=body.encode(), headers={"Content-Type": content_type})


def tamper(response: web.Response, faults: dict[str, Fault]) -> web.Response:
    """Apply faults to the items of a bulk response."""
    kinds = {"short_bulk", "long_bulk", "swapped_bulk", "brief_bulk", "spoiled_bulk"}
    if not kinds & faults.keys() or not response.text:
        return response
    items = json.loads(response.text).get("items", [])
    if "short_bulk" in faults:
        items = items[:-1]
    if "long_bulk" in faults:
        items += items[-1:]
    if "swapped_bulk" in faults:
        items[:2] = items[1::-1]
    if brief := faults.get("brief_bulk"):
        items = [_brief(item) for item in items]
        if brief.options["shuffled"]:
            items.reverse()
    if spoiled := faults.get("spoiled_bulk"):
        items = list(_spoil(items, str(spoiled.options["ids"]).split(), str(spoiled.options["how"])))
    return web.json_response({"items": items}, status=response.status)


def requests_spoiled_id(body: Any, spoiled: Fault) -> bool:
    """Whether a bulk call requests one of the ids of a `spoiled_bulk` fault."""
    requested = {item for items in body.values() for item in items}
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
            yield {"resource": {**item["resource"], "status" if _is_task(item) else "state": None}}
        elif how == "nul":
            text = {"name": "\x00"} if _is_task(item) else {"source": {"file": "\x00"}}
            yield {"resource": {**item["resource"], **text}}


def _is_task(item: Json) -> bool:
    return "status" in item["resource"]
