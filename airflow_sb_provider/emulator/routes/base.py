"""What all routes share: lists, bulk calls and parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from airflow_sb_provider.emulator.errors import ApiError
from airflow_sb_provider.emulator.records import current_record
from airflow_sb_provider.emulator.serializers import BRIEF, Serializer, select

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yarl import URL

    from airflow_sb_provider.emulator.platform import Platform

Json = dict[str, Any]

MAX_ITEMS = 100
DEFAULT_LIMIT, MAX_LIMIT = 50, 100


class Routes:
    """The routes of one type of resource."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.knobs = platform.knobs

    def serializer(self, request: web.Request) -> Serializer:
        """Return the serializer whose URLs are those of this caller."""
        return Serializer(self.platform, f"{request.url.origin()}/v2")

    def single(self, request: web.Request, resource: Json, status: int = 200) -> web.Response:
        """Respond with one resource."""
        return web.json_response(select(resource, request.query.get("fields")), status=status)

    def page(
        self,
        request: web.Request,
        kind: str,
        resources: Sequence[Any],
        serialize: Callable[[Any], Json],
        wrong_total: bool = False,
        always_brief: bool = False,
    ) -> web.Response:
        """Respond with one page of a list.

        :param wrong_total: add one to the total and omit the link to the next page.
        :param always_brief: ignore the parameter `fields`.
        """
        offset, limit = number(request, "offset", 0), self.limit(request)
        url, total = request.url, len(resources) + wrong_total
        links = []
        if offset + limit < total and not wrong_total:
            links.append(_link(url, "next", offset + limit, limit))
        if offset > 0:
            links.append(_link(url, "prev", max(0, offset - limit), limit))
        fields = None if always_brief else request.query.get("fields")
        items = [select(serialize(resource), fields, BRIEF[kind]) for resource in resources[offset : offset + limit]]
        body = {"href": str(url.update_query(offset=offset, limit=limit)), "items": items, "links": links}
        return web.json_response(body, headers={"X-Total-Matching-Query": str(total)})

    def limit(self, request: web.Request) -> int:
        """Return the page size that the caller requests."""
        limit = number(request, "limit", DEFAULT_LIMIT)
        if limit < 1 or (limit > MAX_LIMIT and self.knobs.over_limit == "refuse"):
            raise ApiError(90000)
        return min(limit, MAX_LIMIT)

    def bulk_items(self, request: web.Request, name: str) -> list[Any]:
        """Return the items of a bulk call, from the field `name` of its body."""
        body = current_record.get().json
        items = body.get(name) if isinstance(body, dict) else None
        if not isinstance(items, list) or not items:
            raise ApiError(9011)
        if len(items) > MAX_ITEMS:
            raise ApiError(self.knobs.too_many_items_code)
        return items

    def bulk_answers(self, items: list[Any], get: Callable[[Any], Json]) -> list[Json]:
        """Return the items of a bulk response; an item that fails becomes an error and does not affect the others."""
        answers: list[Json] = []
        for item in items:
            try:
                answers.append({"resource": get(item)})
            except ApiError as error:
                answers.append({"error": error.as_json(self.knobs.code_type)})
        return answers


def owned_id(request: web.Request) -> str:
    """Return the id `owner/name` from a request's path."""
    return f"{request.match_info['owner']}/{request.match_info['name']}"


def flag(request: web.Request, name: str, default: bool = False, malformed: int = 9011) -> bool:
    """Return a boolean of the query; error `malformed`."""
    text = request.query.get(name, str(default)).lower()
    if text not in {"true", "false"}:
        raise ApiError(malformed)
    return text == "true"


def number(request: web.Request, name: str, default: int) -> int:
    """Return a number of the query."""
    text = request.query.get(name, str(default))
    if not text.isdecimal():
        raise ApiError(90000)
    return int(text)


def _link(url: URL, rel: str, offset: int, limit: int) -> Json:
    return {"href": str(url.update_query(offset=offset, limit=limit)), "rel": rel, "method": "GET"}
