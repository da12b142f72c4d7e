"""What the routes have in common: lists, bulk calls, parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from airflow_sb_provider.emulator.errors import Refusal
from airflow_sb_provider.emulator.records import answering
from airflow_sb_provider.emulator.serializers import BRIEF, Views, select

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yarl import URL

    from airflow_sb_provider.emulator.platform import Platform

Json = dict[str, Any]

MAX_ITEMS = 100
USUAL_LIMIT, MAX_LIMIT = 50, 100


class Routes:
    """Routes to one kind of the platform's things."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.knobs = platform.knobs

    def views(self, request: web.Request) -> Views:
        """What turns things into JSON for this caller."""
        return Views(self.platform, f"{request.url.origin()}/v2")

    def one(self, request: web.Request, view: Json, status: int = 200) -> web.Response:
        """One resource."""
        return web.json_response(select(view, request.query.get("fields")), status=status)

    def page(
        self, request: web.Request, kind: str, things: Sequence[Any], view: Callable[[Any], Json], lies: bool = False
    ) -> web.Response:
        """A page of a list of things; `lies` makes its total too large, and it the last."""
        offset, limit = number(request, "offset", 0), self.limit(request)
        url, total = request.url, len(things) + lies
        links = []
        if offset + limit < total and not lies:
            links.append(_link(url, "next", offset + limit, limit))
        if offset > 0:
            links.append(_link(url, "prev", max(0, offset - limit), limit))
        fields = request.query.get("fields")
        items = [select(view(thing), fields, BRIEF[kind]) for thing in things[offset : offset + limit]]
        body = {"href": str(url.update_query(offset=offset, limit=limit)), "items": items, "links": links}
        return web.json_response(body, headers={"X-Total-Matching-Query": str(total)})

    def limit(self, request: web.Request) -> int:
        """How many items the caller wants of a list."""
        limit = number(request, "limit", USUAL_LIMIT)
        if limit < 1 or (limit > MAX_LIMIT and self.knobs.over_limit == "refuse"):
            raise Refusal(90000)
        return min(limit, MAX_LIMIT)

    def bulk(self, request: web.Request, name: str) -> list[Any]:
        """What a bulk call asks about, in the field `name` of its body."""
        body = answering.get().json
        items = body.get(name) if isinstance(body, dict) else None
        if not isinstance(items, list) or not items:
            raise Refusal(9011)
        if len(items) > MAX_ITEMS:
            raise Refusal(self.knobs.too_many_items_code)
        return items

    def each(self, items: list[Any], answer: Callable[[Any], Json]) -> list[Json]:
        """The items of a bulk answer; what is refused costs only its own."""
        answers: list[Json] = []
        for item in items:
            try:
                answers.append({"resource": answer(item)})
            except Refusal as refusal:
                answers.append({"error": refusal.as_json(self.knobs.code_type)})
        return answers


def owned(request: web.Request) -> str:
    """The id `owner/name` in a request's path."""
    return f"{request.match_info['owner']}/{request.match_info['name']}"


def flag(request: web.Request, name: str) -> bool:
    """A boolean of the query; false if it is not there."""
    text = request.query.get(name, "false").lower()
    if text not in {"true", "false"}:
        raise Refusal(9011)
    return text == "true"


def number(request: web.Request, name: str, usual: int) -> int:
    """A number of the query."""
    text = request.query.get(name, str(usual))
    if not text.isdecimal():
        raise Refusal(90000)
    return int(text)


def _link(url: URL, rel: str, offset: int, limit: int) -> Json:
    return {"href": str(url.update_query(offset=offset, limit=limit)), "rel": rel, "method": "GET"}
