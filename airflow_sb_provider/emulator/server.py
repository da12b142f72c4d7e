"""The Platform's API v2 over HTTP, and the log of who asked what."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from aiohttp import web

from airflow_sb_provider.emulator.errors import Refusal
from airflow_sb_provider.emulator.guard import LOCAL, add_headers, guard
from airflow_sb_provider.emulator.jobs import Jobs
from airflow_sb_provider.emulator.platform import now
from airflow_sb_provider.emulator.views import BRIEF, Views, select

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from multidict import CIMultiDictProxy, MultiMapping
    from yarl import URL

    from airflow_sb_provider.emulator.platform import ExportJob, File, Platform, User
    from airflow_sb_provider.emulator.trouble import Trouble, Troubles

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Event = Literal["request", "accepted"]
Json = dict[str, Any]

log = logging.getLogger(__name__)

MAX_BODY = 4 << 20
MAX_ITEMS = 100
USUAL_LIMIT, MAX_LIMIT = 50, 100
_NO_FILTERS = {"project", "parent", "fields", "offset", "limit"}


@dataclass
class RequestRecord:
    """One request that was received, and what became of it."""

    method: str
    path: str
    query: MultiMapping[str]
    headers: CIMultiDictProxy[str]
    json: Any
    peer: tuple[str, int] | None
    """The caller's address and port, by which its process can be found."""
    time: float = field(default_factory=time.time)
    status: int | None = None
    """The status answered; None while nothing is, or if the connection was cut."""
    user: User | None = None
    exports: list[str] = field(default_factory=list)
    """The ids of the jobs that this request started."""
    troubles: list[str] = field(default_factory=list)
    """The kinds of trouble that struck it."""

    @property
    def username(self) -> str | None:
        """Whose token it bore, if it was a good one."""
        return self.user.username if self.user else None

    def as_json(self) -> Json:
        """The record without the caller's token."""
        known = {name: value for name, value in vars(self).items() if name != "user"}
        secret = {"x-sbg-auth-token", "authorization"}
        return {
            **known,
            "username": self.username,
            "query": {name: self.query.getall(name) for name in self.query},
            "headers": {name: "***" if name.lower() in secret else value for name, value in self.headers.items()},
        }


_answering: ContextVar[RequestRecord] = ContextVar("_answering")
"""The request that the current task answers."""


@dataclass
class _Window:
    """What one token has used of its rate limit until `reset` (whole epoch seconds)."""

    reset: int
    used: int = 0


class Server:
    """Answers the API's requests; every method runs in the server's loop.

    :param platform: what it answers about.
    :param troubles: the faults that may strike.
    :param tell: called with an event and the record of its request; False cuts the connection there.
    """

    def __init__(self, platform: Platform, troubles: Troubles, tell: Callable[[Event, RequestRecord], bool]) -> None:
        self.platform = platform
        self.knobs = platform.knobs
        self.requests: list[RequestRecord] = []
        self.jobs = Jobs(platform)
        self._troubles = troubles
        self._tell = tell
        self._windows: dict[str, _Window] = {}
        self._late: set[asyncio.Task[None]] = set()

    def application(self) -> web.Application:
        """The aiohttp application, with the control API of `control.py` still to be added."""
        app = web.Application(middlewares=[guard, self._front_door], client_max_size=MAX_BODY)
        app.on_response_prepare.extend([add_headers, self._set_date])
        app.add_routes(
            [
                web.get("/", self._links),
                web.get("/v2", self._links),
                web.get("/v2/", self._links),
                web.get("/v2/user", self._user),
                web.get("/v2/rate_limit", self._rate_limit),
                web.post("/v2/storage/exports", self._start_export),
                web.get("/v2/storage/exports", self._list_exports),
                web.get("/v2/storage/exports/{id}", self._get_export),
                web.post("/v2/bulk/storage/exports/create", self._bulk_start),
                web.post("/v2/bulk/storage/exports/get", self._bulk_get_exports),
                web.post("/v2/bulk/storage/export/get", self._bulk_get_exports),
                web.get("/v2/files", self._list_files),
                web.get("/v2/files/{id}", self._get_file),
                web.get("/v2/files/{id}/list", self._list_folder),
                web.post("/v2/bulk/files/get", self._bulk_get_files),
                web.get("/v2/storage/volumes", self._list_volumes),
                web.get("/v2/storage/volumes/{owner}/{name}", self._get_volume),
                web.get("/v2/storage/volumes/{owner}/{name}/list", self._list_volume),
                web.get("/v2/storage/volumes/{owner}/{name}/object", self._get_object),
                web.get("/v2/projects", self._list_projects),
                web.get("/v2/projects/", self._list_projects),
                web.get("/v2/projects/{owner}", self._list_projects),
                web.get("/v2/projects/{owner}/{name}", self._get_project),
            ]
        )
        return app

    async def stop(self) -> None:
        """Abandon jobs and late requests."""
        for task in list(self._late):
            task.cancel()
        await self.jobs.stop()

    # What every request meets

    @web.middleware
    async def _front_door(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(LOCAL):
            return await handler(request)
        record = await self._record(request)
        struck = self._troubles.for_request(request.method, request.path)
        record.troubles = list(struck)
        if not self._tell("request", record) or self.knobs.offline:
            return _cut(request)
        if "drop" in struck or "refuse_connection" in struck:
            return _cut(request)
        if late := struck.get("late_accept"):
            task = asyncio.get_running_loop().create_task(self._answer_late(request, handler, record, late))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            return _cut(request)
        if delay := struck.get("delay"):
            await asyncio.sleep(float(delay.options["before"]))
        if "deliver_twice" in struck:
            response, record = await self._answer_twice(request, handler, record, struck)
        else:
            response = await self._answer(request, handler, record, struck)
        if response is None:
            return _cut(request)
        self._add_headers(request, response, struck)
        if delay:
            await asyncio.sleep(float(delay.options["reply"]))
        if "lose_reply" in struck:
            self._lose(record)
            return _cut(request)
        record.status = response.status
        if (cut := struck.get("cut_json")) and isinstance(response.body, bytes):
            return await _cut_body(request, response, cut)
        return response

    async def _set_date(self, request: web.Request, response: web.StreamResponse) -> None:
        # Only here, since aiohttp sets one right before.
        if self.knobs.no_date_header:
            response.headers.popall("Date", None)
        else:
            moment = now() + timedelta(seconds=self.knobs.date_skew_seconds)
            response.headers["Date"] = format_datetime(moment, usegmt=True)

    async def _record(self, request: web.Request) -> RequestRecord:
        content = await request.read()
        body = None
        # Records are kept: a caller without a token must not fill the memory with bodies.
        if _token(request) in self.platform.users:
            with contextlib.suppress(ValueError, RecursionError):
                body = json.loads(content or b"null")
        peer = request.transport.get_extra_info("peername") if request.transport else None
        record = RequestRecord(
            request.method, request.path, request.query, request.headers, body, tuple(peer[:2]) if peer else None
        )
        self.requests.append(record)
        return record

    async def _answer_late(self, request: web.Request, handler: Handler, record: RequestRecord, late: Trouble) -> None:
        await asyncio.sleep(float(late.options["seconds"]))
        await self._answer(request, handler, record, {})
        self._lose(record)

    async def _answer_twice(
        self, request: web.Request, handler: Handler, record: RequestRecord, struck: dict[str, Trouble]
    ) -> tuple[web.Response | None, RequestRecord]:
        """The answer that reaches the caller, and the record of that delivery."""
        options = struck["deliver_twice"].options
        first = await self._answer(request, handler, record, struck)
        await asyncio.sleep(float(options["seconds"]))
        again = replace(record, exports=[], time=time.time())
        self.requests.append(again)
        second = await self._answer(request, handler, again, struck)
        if options["answered"] == "second":
            self._lose(record)
            return second, again
        self._lose(again)
        return first, record

    def _lose(self, record: RequestRecord) -> None:
        for export_id in record.exports:
            self.platform.exports[export_id].reply_lost = True

    async def _answer(
        self, request: web.Request, handler: Handler, record: RequestRecord, struck: dict[str, Trouble]
    ) -> web.Response | None:
        """The answer, with the troubles that replace it; None where a listener wants the connection cut."""
        page, error, redirect = struck.get("html") or struck.get("text"), struck.get("error"), struck.get("redirect")
        replaced: web.Response | None = None
        if page:
            replaced = _gateway_page(**page.options)
        elif error:
            options = error.options
            replaced = self._refused(Refusal(int(options["code"]), options["message"], options["status"]))
        elif redirect:
            replaced = web.Response(
                status=int(redirect.options["status"]), headers={"Location": str(redirect.options["to"])}
            )
        spoiled = struck.get("spoiled_bulk")
        if spoiled and spoiled.options["how"] == "refused" and _names_one(record.json, spoiled):
            replaced = self._refused(Refusal(int(spoiled.options["code"])))
        doing = page or error
        if replaced and not (doing and doing.options["done"]):
            return replaced
        if self.knobs.latency:
            await asyncio.sleep(self.knobs.latency)
        _answering.set(record)
        try:
            self._admit(request, record)
            response = await handler(request)
            if record.exports and not self._tell("accepted", record):
                self._lose(record)
                return None
        except Refusal as refusal:
            response = self._refused(refusal)
        except web.HTTPException as router:
            reason = router.reason.upper().replace(" ", "_")
            response = web.json_response(
                {"status": reason, "message": f"HTTP {router.status} {router.reason}"}, status=router.status
            )
        except Exception:
            log.exception("%s %r", request.method, request.path)
            response = self._refused(Refusal(90004))
        if not isinstance(response, web.Response):
            raise TypeError(response)
        if replaced:
            self._lose(record)
            return replaced
        return _tampered(response, struck)

    def _admit(self, request: web.Request, record: RequestRecord) -> None:
        """Maintenance, the token, the rate limit and the content type, in that order."""
        if request.match_info.http_exception:
            return
        if self.knobs.maintenance:
            raise Refusal(0)
        if request.path.rstrip("/") in {"", "/v2"}:
            return
        user = self.platform.users.get(_token(request))
        if user is None:
            raise Refusal(90001)
        record.user = user
        if request.path != "/v2/rate_limit":
            window = self._window(user.token)
            cost = _items_in(record.json) if self.knobs.bulk_cost == "items" else 1
            if window.used + cost > self.knobs.rate_limit:
                raise Refusal(1000)
            window.used += cost
        content_type = request.headers.get("Content-Type")
        if request.method == "POST" and content_type and request.content_type != "application/json":
            raise Refusal(90008)

    def _window(self, token: str) -> _Window:
        moment = time.time()
        window = self._windows.get(token)
        if window is None or moment >= window.reset:
            window = _Window(math.ceil(moment + self.knobs.rate_window))
            if token in self.platform.users:
                self._windows[token] = window
        return window

    def _refused(self, refusal: Refusal) -> web.Response:
        if refusal.code == 90001 and self.knobs.unauthorized_body != "standard":
            if self.knobs.unauthorized_body == "empty":
                return web.Response(status=401)
            return web.json_response({"status": "UNAUTHORIZED", "message": "HTTP 401 Unauthorized"}, status=401)
        return web.json_response(refusal.as_json(self.knobs.code_type), status=refusal.status)

    def _add_headers(self, request: web.Request, response: web.Response, struck: dict[str, Trouble]) -> None:
        response.headers["X-Request-Id"] = secrets.token_hex(8)
        if "no_rate_headers" in struck:
            return
        window = self._window(_token(request))
        values: tuple[object, ...] = (self.knobs.rate_limit, self._remaining(window), window.reset)
        if bad := struck.get("bad_rate_headers"):
            values = (bad.options["value"],) * 3
        for name, value in zip(("Limit", "Remaining", "Reset"), values, strict=True):
            response.headers[f"X-RateLimit-{name}"] = str(value)

    def _remaining(self, window: _Window) -> int:
        return max(0, self.knobs.rate_limit - window.used)

    # Helpers of the handlers

    def _views(self, request: web.Request) -> Views:
        return Views(self.platform, f"{request.url.origin()}/v2")

    def _one(self, request: web.Request, view: Json, status: int = 200) -> web.Response:
        return web.json_response(select(view, request.query.get("fields")), status=status)

    def _page(
        self, request: web.Request, kind: str, things: Sequence[Any], view: Callable[[Any], Json], lies: bool = False
    ) -> web.Response:
        offset, limit = _number(request, "offset", 0), self._limit(request)
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

    def _limit(self, request: web.Request) -> int:
        limit = _number(request, "limit", USUAL_LIMIT)
        if limit < 1 or (limit > MAX_LIMIT and self.knobs.over_limit == "refuse"):
            raise Refusal(90000)
        return min(limit, MAX_LIMIT)

    def _bulk(self, request: web.Request, name: str) -> list[Any]:
        body = _answering.get().json
        items = body.get(name) if isinstance(body, dict) else None
        if not isinstance(items, list) or not items:
            raise Refusal(9011)
        if len(items) > MAX_ITEMS:
            raise Refusal(self.knobs.too_many_items_code)
        return items

    def _each(self, items: list[Any], answer: Callable[[Any], Json]) -> list[Json]:
        answers: list[Json] = []
        for item in items:
            try:
                answers.append({"resource": answer(item)})
            except Refusal as refusal:
                answers.append({"error": refusal.as_json(self.knobs.code_type)})
        return answers

    # Who and how much

    async def _links(self, request: web.Request) -> web.Response:
        base = f"{request.url.origin()}/v2"
        names = ("rate_limit", "user", "users", "billing", "projects", "files", "tasks", "apps", "storage")
        return web.json_response({f"{name}_url": f"{base}/{name}" for name in (*names, "action", "upload")})

    async def _user(self, request: web.Request) -> web.Response:
        return self._one(request, self._views(request).user(_user()))

    async def _rate_limit(self, request: web.Request) -> web.Response:
        window = self._window(_user().token)
        rate = {"limit": self.knobs.rate_limit, "remaining": self._remaining(window), "reset": window.reset}
        return self._one(request, {"rate": rate, "instance_limit": {"limit": -1, "remaining": 2**63 - 1}})

    # Exports

    async def _start_export(self, request: web.Request) -> web.Response:
        record = _answering.get()
        if not isinstance(record.json, dict):
            raise Refusal(9011)
        copy_only, overwrite = _flag(request, "copy_only"), _flag(request, "overwrite")
        user = _user()
        job = await asyncio.to_thread(self.platform.submit, user, record.json, copy_only, overwrite)
        await self._accept([job], record)
        return self._one(request, self._views(request).export(job), self.knobs.created_status)

    async def _bulk_start(self, request: web.Request) -> web.Response:
        items, copy_only = self._bulk(request, "items"), _flag(request, "copy_only")
        user, record = _user(), _answering.get()
        outcomes: list[ExportJob | Refusal] = []

        def submit_all() -> None:
            for item in items:
                try:
                    outcomes.append(self.platform.submit(user, item, copy_only))
                except Refusal as refusal:
                    outcomes.append(refusal)

        await asyncio.to_thread(submit_all)
        await self._accept([each for each in outcomes if not isinstance(each, Refusal)], record)
        view = self._views(request).export
        answers = [
            {"error": each.as_json(self.knobs.code_type)} if isinstance(each, Refusal) else {"resource": view(each)}
            for each in outcomes
        ]
        return web.json_response({"items": answers}, status=self.knobs.created_status)

    async def _accept(self, jobs: list[ExportJob], record: RequestRecord) -> None:
        for job in jobs:
            for trouble in self._troubles.for_job():
                if trouble.kind == "job_stuck":
                    job.held = trouble.options["state"]
                else:
                    job.fail_with = Refusal(int(trouble.options["code"]), trouble.options["message"])
                    job.fail_as = str(trouble.options["state"])
        record.exports += [job.id for job in jobs]
        tasks = [self.jobs.start(job) for job in jobs]
        if self.knobs.instant and tasks:
            await asyncio.wait(tasks)

    async def _list_exports(self, request: web.Request) -> web.Response:
        query = request.query
        found = self.platform.jobs(_user(), query.get("volume"), query.getall("state", []))
        return self._page(request, "export", found, self._views(request).export, lies=self.knobs.total_lies)

    async def _get_export(self, request: web.Request) -> web.Response:
        job = self.platform.job(_user(), request.match_info["id"])
        return self._one(request, self._views(request).export(job))

    async def _bulk_get_exports(self, request: web.Request) -> web.Response:
        view, user = self._views(request).export, _user()
        ids = self._bulk(request, "export_ids")
        return web.json_response({"items": self._each(ids, lambda each: view(self.platform.job(user, str(each))))})

    # Files

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
            parent = self.platform.project(_user(), project_id).root_folder
        return self._folder(request, str(parent))

    async def _list_folder(self, request: web.Request) -> web.Response:
        return self._folder(request, request.match_info["id"])

    def _folder(self, request: web.Request, folder_id: str) -> web.Response:
        folder = self.platform.file(_user(), folder_id)
        if folder.type != "folder":
            raise Refusal(5022)
        found = self.platform.children(folder)
        # Repeats of one filter are alternatives, different ones must all hold.
        for name in set(request.query) - _NO_FILTERS:
            wanted = set(request.query.getall(name))
            found = [file for file in found if _fits(file, name, wanted)]
        return self._page(request, "file", list(map(self.platform.shown, found)), self._views(request).file)

    async def _get_file(self, request: web.Request) -> web.Response:
        file = self.platform.file(_user(), request.match_info["id"])
        return self._one(request, self._views(request).file(self.platform.shown(file)))

    async def _bulk_get_files(self, request: web.Request) -> web.Response:
        platform, view, user = self.platform, self._views(request).file, _user()
        ids = self._bulk(request, "file_ids")
        items = self._each(ids, lambda each: view(platform.shown(platform.file(user, str(each)))))
        return web.json_response({"items": items})

    # Volumes and projects

    async def _list_volumes(self, request: web.Request) -> web.Response:
        user = _user()
        found = [] if user.access == "none" else list(self.platform.volumes.values())
        return self._page(request, "volume", found, self._views(request).volume)

    async def _get_volume(self, request: web.Request) -> web.Response:
        volume = self.platform.volume(_user(), _owned(request))
        return self._one(request, self._views(request).volume(volume))

    async def _get_object(self, request: web.Request) -> web.Response:
        volume = self.platform.volume(_user(), _owned(request))
        location = request.query.get("location")
        if not location:
            raise Refusal(9011)
        found = await asyncio.to_thread(self.platform.object_of, volume, location)
        return self._one(request, self._views(request).stored_object(volume, location, found))

    async def _list_volume(self, request: web.Request) -> web.Response:
        """One level of a volume; its paging differs from all other lists (no total, `{"next": url}`)."""
        volume = self.platform.volume(_user(), _owned(request))
        if not volume.active:
            raise Refusal(9069)
        prefix, limit = request.query.get("prefix", ""), self._limit(request)
        after = request.query.get("continuation_token", "")
        root = self.platform.key(volume, "")
        stored = await asyncio.to_thread(self.platform.objects, volume, root + prefix)
        views, entries = self._views(request), dict[str, Json]()
        for each in stored:
            location = each.key.removeprefix(root)
            head, slash, _ = location.removeprefix(prefix).partition("/")
            if slash:
                deeper = f"{prefix}{head}/"
                href = f"{request.url.origin()}/v2/storage/volumes/{volume.id}/list?prefix={quote(deeper, safe='')}"
                entries[deeper] = {"href": href, "prefix": deeper, "volume": volume.id}
            else:
                entries[location] = views.stored_object(volume, location, each)
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

    async def _list_projects(self, request: web.Request) -> web.Response:
        user = _user()
        found = [] if user.access == "none" else list(self.platform.projects.values())
        if owner := request.match_info.get("owner"):
            found = [project for project in found if project.id.startswith(f"{owner}/")]
        return self._page(request, "project", found, self._views(request).project)

    async def _get_project(self, request: web.Request) -> web.Response:
        project = self.platform.project(_user(), _owned(request))
        return self._one(request, self._views(request).project(project))


def _user() -> User:
    user = _answering.get().user
    if user is None:
        raise Refusal(90001)
    return user


def _token(request: web.Request) -> str:
    given = request.headers.get("X-SBG-Auth-Token")
    if given:
        return given
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _owned(request: web.Request) -> str:
    return f"{request.match_info['owner']}/{request.match_info['name']}"


def _flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "false").lower()
    if text not in {"true", "false"}:
        raise Refusal(9011)
    return text == "true"


def _number(request: web.Request, name: str, usual: int) -> int:
    text = request.query.get(name, str(usual))
    if not text.isdecimal():
        raise Refusal(90000)
    return int(text)


def _link(url: URL, rel: str, offset: int, limit: int) -> Json:
    return {"href": str(url.update_query(offset=offset, limit=limit)), "rel": rel, "method": "GET"}


def _items_in(body: Any) -> int:
    """How many things a bulk call asks about; any other call asks about one."""
    lists = [body.get(name) for name in ("items", "export_ids", "file_ids")] if isinstance(body, dict) else []
    return next((len(each) for each in lists if isinstance(each, list)), 1)


def _fits(file: File, filter_: str, wanted: set[str]) -> bool:
    """Whether a file has one of the values that are asked for; a query that is no filter fits every file."""
    if filter_ == "name":
        return file.name in wanted
    if filter_ == "tag":
        return not wanted.isdisjoint(file.tags)
    if filter_ == "origin.task":
        return file.task in wanted
    if filter_.startswith("metadata."):
        return str(file.metadata.get(filter_.removeprefix("metadata."))) in wanted
    return True


def _cut(request: web.Request) -> web.Response:
    """End the connection; the response that is returned reaches nobody."""
    if request.transport:
        request.transport.abort()
    return web.Response()


async def _cut_body(request: web.Request, whole: web.Response, cut: Trouble) -> web.StreamResponse:
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


def _gateway_page(
    status: int, body: str | None = None, content_type: str = "text/html; charset=utf-8", done: bool = False
) -> web.Response:
    if body is None:
        body = f"<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center>nginx</body></html>"
    return web.Response(status=int(status), body=body.encode(), headers={"Content-Type": content_type})


def _tampered(response: web.Response, struck: dict[str, Trouble]) -> web.Response:
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


def _brief(item: Json) -> Json:
    return {"resource": select(item["resource"], "href,id,state")} if "resource" in item else item


def _names_one(body: Any, spoiled: Trouble) -> bool:
    requested = {each for ids in body.values() for each in ids}
    return not requested.isdisjoint(str(spoiled.options["ids"]).split())


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
