"""What every request of the API meets before and after its route: the log, troubles, the token, the rate limit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

from aiohttp import web

from airflow_sb_provider.emulator.errors import Refusal
from airflow_sb_provider.emulator.guard import LOCAL
from airflow_sb_provider.emulator.platform import now
from airflow_sb_provider.emulator.records import Event, RequestRecord, answering, token_of
from airflow_sb_provider.emulator.tampering import cut_body, cut_connection, gateway_page, names_one, tampered

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.faults import Fault, Faults
    from airflow_sb_provider.emulator.platform import Platform
    from airflow_sb_provider.emulator.rate_limit import RateLimit

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Notify = Callable[[Event, RequestRecord], bool]

log = logging.getLogger(__name__)


class FrontDoor:
    """Lets requests in, and answers out.

    :param platform: whose users may come in.
    :param rate_limit: how often they may.
    :param troubles: the faults that may strike.
    :param notify: called with an event and the record of its request; False cuts the connection there.
    """

    def __init__(self, platform: Platform, rate_limit: RateLimit, troubles: Faults, notify: Notify) -> None:
        self.requests: list[RequestRecord] = []
        self._platform = platform
        self._knobs = platform.knobs
        self._rate_limit = rate_limit
        self._troubles = troubles
        self._notify = notify
        self._late: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Abandon late requests."""
        for task in list(self._late):
            task.cancel()

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request of the API; the control API is not troubled."""
        if request.path.startswith(LOCAL):
            return await handler(request)
        try:
            record = await self._record(request)
        except (ConnectionError, web.RequestPayloadError):
            # The caller has broken off before the end of the body.
            return cut_connection(request)
        struck = self._troubles.for_request(request.method, request.path)
        record.troubles = list(struck)
        if not self._notify("request", record) or self._knobs.offline:
            return cut_connection(request)
        if "drop" in struck or "refuse_connection" in struck:
            return cut_connection(request)
        if late := struck.get("late_accept"):
            task = asyncio.get_running_loop().create_task(self._answer_late(request, handler, record, late))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            return cut_connection(request)
        if delay := struck.get("delay"):
            await asyncio.sleep(float(delay.options["before"]))
        if "deliver_twice" in struck:
            response, record = await self._answer_twice(request, handler, record, struck)
        else:
            response = await self._answer(request, handler, record, struck)
        if response is None:
            return cut_connection(request)
        self._add_headers(request, response, struck)
        if delay:
            await asyncio.sleep(float(delay.options["reply"]))
        if "lose_reply" in struck:
            self._lose(record)
            return cut_connection(request)
        record.status = response.status
        if (cut := struck.get("cut_json")) and isinstance(response.body, bytes):
            return await cut_body(request, response, cut)
        return response

    async def _record(self, request: web.Request) -> RequestRecord:
        content = await request.read()
        body = None
        # Records are kept: a caller without a token must not fill the memory with bodies.
        if token_of(request) in self._platform.users:
            with contextlib.suppress(ValueError, RecursionError):
                body = json.loads(content or b"null")
        peer = request.transport.get_extra_info("peername") if request.transport else None
        record = RequestRecord(
            request.method, request.path, request.query, request.headers, body, tuple(peer[:2]) if peer else None
        )
        self.requests.append(record)
        return record

    async def _answer_late(self, request: web.Request, handler: Handler, record: RequestRecord, late: Fault) -> None:
        await asyncio.sleep(float(late.options["seconds"]))
        await self._answer(request, handler, record, {})
        self._lose(record)

    async def _answer_twice(
        self, request: web.Request, handler: Handler, record: RequestRecord, struck: dict[str, Fault]
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
            self._platform.exports[export_id].reply_lost = True

    async def _answer(
        self, request: web.Request, handler: Handler, record: RequestRecord, struck: dict[str, Fault]
    ) -> web.Response | None:
        """The answer, with the troubles that replace it; None where a listener wants the connection cut."""
        replaced, is_done = self._replaced(record, struck)
        if replaced and not is_done:
            return replaced
        if self._knobs.latency:
            await asyncio.sleep(self._knobs.latency)
        answering.set(record)
        try:
            self._admit(request, record)
            response = await handler(request)
            if record.exports and not self._notify("accepted", record):
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
        return tampered(response, struck)

    def _replaced(self, record: RequestRecord, struck: dict[str, Fault]) -> tuple[web.Response | None, bool]:
        """The answer that a trouble gives instead, and whether the request is done all the same."""
        spoiled = struck.get("spoiled_bulk")
        if spoiled and spoiled.options["how"] == "refused" and names_one(record.json, spoiled):
            return self._refused(Refusal(int(spoiled.options["code"]))), False
        if page := struck.get("html") or struck.get("text"):
            return gateway_page(**page.options), page.options["done"]
        if error := struck.get("error"):
            options = error.options
            return self._refused(Refusal(int(options["code"]), options["message"], options["status"])), options["done"]
        if redirect := struck.get("redirect"):
            headers = {"Location": str(redirect.options["to"])}
            return web.Response(status=int(redirect.options["status"]), headers=headers), False
        return None, False

    def _admit(self, request: web.Request, record: RequestRecord) -> None:
        """Maintenance, the token, the rate limit and the content type, in that order."""
        if request.match_info.http_exception:
            return
        if self._knobs.maintenance:
            raise Refusal(0)
        if request.path.rstrip("/") in {"", "/v2"}:
            return
        user = self._platform.users.get(token_of(request))
        if user is None:
            raise Refusal(90001)
        record.user = user
        if request.path != "/v2/rate_limit":
            self._rate_limit.spend(user.token, record.json)
        content_type = request.headers.get("Content-Type")
        if request.method == "POST" and content_type and request.content_type != "application/json":
            raise Refusal(90008)

    def _refused(self, refusal: Refusal) -> web.Response:
        if refusal.code == 90001 and self._knobs.unauthorized_body != "standard":
            if self._knobs.unauthorized_body == "empty":
                return web.Response(status=401)
            return web.json_response({"status": "UNAUTHORIZED", "message": "HTTP 401 Unauthorized"}, status=401)
        return web.json_response(refusal.as_json(self._knobs.code_type), status=refusal.status)

    def _add_headers(self, request: web.Request, response: web.Response, struck: dict[str, Fault]) -> None:
        response.headers["X-Request-Id"] = secrets.token_hex(8)
        if "no_rate_headers" in struck:
            return
        window = self._rate_limit.window(token_of(request))
        values: tuple[object, ...] = (self._knobs.rate_limit, self._rate_limit.remaining(window), window.reset)
        if bad := struck.get("bad_rate_headers"):
            values = (bad.options["value"],) * 3
        for name, value in zip(("Limit", "Remaining", "Reset"), values, strict=True):
            response.headers[f"X-RateLimit-{name}"] = str(value)

    async def set_date(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set the Date header, or leave it out; called when a response is about to be sent."""
        # Only here, since aiohttp sets one right before.
        if self._knobs.no_date_header:
            response.headers.popall("Date", None)
        else:
            moment = now() + timedelta(seconds=self._knobs.date_skew_seconds)
            response.headers["Date"] = format_datetime(moment, usegmt=True)
