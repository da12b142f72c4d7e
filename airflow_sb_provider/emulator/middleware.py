"""What applies to every request of the API before and after its route: log, faults, token and rate limit."""

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

from airflow_sb_provider.emulator.errors import ApiError
from airflow_sb_provider.emulator.guard import LOCAL
from airflow_sb_provider.emulator.platform import now
from airflow_sb_provider.emulator.records import Event, RequestRecord, current_record, token_of
from airflow_sb_provider.emulator.tampering import cut_body, cut_connection, gateway_page, requests_spoiled_id, tamper

if TYPE_CHECKING:
    from airflow_sb_provider.emulator.faults import Fault, Faults
    from airflow_sb_provider.emulator.platform import Platform
    from airflow_sb_provider.emulator.rate_limit import RateLimit

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Notify = Callable[[Event, RequestRecord], bool]

log = logging.getLogger(__name__)


class ApiMiddleware:
    """Records each request, applies faults, and checks the token and the rate limit.

    :param platform: holds the users.
    :param rate_limit: counts the requests of each token.
    :param faults: the injected faults.
    :param notify: called with an event and the record of its request; if it returns False, the connection is cut.
    """

    def __init__(self, platform: Platform, rate_limit: RateLimit, faults: Faults, notify: Notify) -> None:
        self.requests: list[RequestRecord] = []
        self._platform = platform
        self._knobs = platform.knobs
        self._rate_limit = rate_limit
        self._faults = faults
        self._notify = notify
        self._late: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Cancel late requests."""
        for task in list(self._late):
            task.cancel()

    @web.middleware
    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Respond to a request of the API; faults do not apply to the control API."""
        if request.path.startswith(LOCAL):
            return await handler(request)
        try:
            record = await self._record(request)
        except (ConnectionError, web.RequestPayloadError):
            # The caller closed the connection before the end of the body.
            return cut_connection(request)
        faults = self._faults.for_request(request.method, request.path)
        record.troubles = list(faults)
        if not self._notify("request", record) or self._knobs.offline:
            return cut_connection(request)
        if "drop" in faults or "refuse_connection" in faults:
            return cut_connection(request)
        if late := faults.get("late_accept"):
            task = asyncio.get_running_loop().create_task(self._respond_late(request, handler, record, late))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            return cut_connection(request)
        if delay := faults.get("delay"):
            await asyncio.sleep(float(delay.options["before"]))
        if "deliver_twice" in faults:
            response, record = await self._respond_twice(request, handler, record, faults)
        else:
            response = await self._respond(request, handler, record, faults)
        if response is None:
            return cut_connection(request)
        self._add_headers(request, response, faults)
        if delay:
            await asyncio.sleep(float(delay.options["reply"]))
        if "lose_reply" in faults:
            self._mark_reply_lost(record)
            return cut_connection(request)
        record.status = response.status
        if (cut := faults.get("cut_json")) and isinstance(response.body, bytes):
            return await cut_body(request, response, cut)
        return response

    async def _record(self, request: web.Request) -> RequestRecord:
        content = await request.read()
        body = None
        # Records are kept, so a caller without a token must not fill the memory with bodies.
        if token_of(request) in self._platform.users:
            with contextlib.suppress(ValueError, RecursionError):
                body = json.loads(content or b"null")
        peer = request.transport.get_extra_info("peername") if request.transport else None
        record = RequestRecord(
            request.method, request.path, request.query, request.headers, body, tuple(peer[:2]) if peer else None
        )
        self.requests.append(record)
        return record

    async def _respond_late(self, request: web.Request, handler: Handler, record: RequestRecord, late: Fault) -> None:
        await asyncio.sleep(float(late.options["seconds"]))
        await self._respond(request, handler, record, {})
        self._mark_reply_lost(record)

    async def _respond_twice(
        self, request: web.Request, handler: Handler, record: RequestRecord, faults: dict[str, Fault]
    ) -> tuple[web.Response | None, RequestRecord]:
        """Return the response for the caller, and the record of its delivery."""
        options = faults["deliver_twice"].options
        first = await self._respond(request, handler, record, faults)
        await asyncio.sleep(float(options["seconds"]))
        again = replace(record, exports=[], tasks=[], time=time.time())
        self.requests.append(again)
        second = await self._respond(request, handler, again, faults)
        if options["answered"] == "second":
            self._mark_reply_lost(record)
            return second, again
        self._mark_reply_lost(again)
        return first, record

    def _mark_reply_lost(self, record: RequestRecord) -> None:
        for job in self._platform.jobs_of(record):
            job.reply_lost = True

    async def _respond(
        self, request: web.Request, handler: Handler, record: RequestRecord, faults: dict[str, Fault]
    ) -> web.Response | None:
        """Return the response, replaced by faults where they apply; None if a callback cuts the connection."""
        replacement, is_done = self._replacement(record, faults)
        if replacement and not is_done:
            return replacement
        if self._knobs.latency:
            await asyncio.sleep(self._knobs.latency)
        current_record.set(record)
        try:
            self._check_access(request, record)
            response = await handler(request)
            if (record.exports or record.tasks) and not self._notify("accepted", record):
                self._mark_reply_lost(record)
                return None
        except ApiError as error:
            response = self._error_response(error)
        except web.HTTPException as error:
            reason = error.reason.upper().replace(" ", "_")
            response = web.json_response(
                {"status": reason, "message": f"HTTP {error.status} {error.reason}"}, status=error.status
            )
        except Exception:
            log.exception("%s %r", request.method, request.path)
            response = self._error_response(ApiError(90004))
        if not isinstance(response, web.Response):
            raise TypeError(response)
        if replacement:
            self._mark_reply_lost(record)
            return replacement
        return tamper(response, faults)

    def _replacement(self, record: RequestRecord, faults: dict[str, Fault]) -> tuple[web.Response | None, bool]:
        """Return the response that a fault replaces the real one with, and whether the request is processed anyway."""
        spoiled = faults.get("spoiled_bulk")
        if spoiled and spoiled.options["how"] == "refused" and requests_spoiled_id(record.json, spoiled):
            return self._error_response(ApiError(int(spoiled.options["code"]))), False
        if page := faults.get("html") or faults.get("text"):
            return gateway_page(**page.options), page.options["done"]
        if error := faults.get("error"):
            options = error.options
            replacement = ApiError(int(options["code"]), options["message"], options["status"])
            return self._error_response(replacement), options["done"]
        if redirect := faults.get("redirect"):
            headers = {"Location": str(redirect.options["to"])}
            return web.Response(status=int(redirect.options["status"]), headers=headers), False
        return None, False

    def _check_access(self, request: web.Request, record: RequestRecord) -> None:
        """Check maintenance, the token, the rate limit and the content type, in that order."""
        if request.match_info.http_exception:
            return
        if self._knobs.maintenance:
            raise ApiError(0)
        if request.path.rstrip("/") in {"", "/v2"}:
            return
        user = self._platform.users.get(token_of(request))
        if user is None:
            raise ApiError(90001)
        record.user = user
        if request.path != "/v2/rate_limit":
            self._rate_limit.spend(user.token, record.json)
        content_type = request.headers.get("Content-Type")
        if request.method == "POST" and content_type and request.content_type != "application/json":
            raise ApiError(90008)

    def _error_response(self, error: ApiError) -> web.Response:
        if error.code == 90001 and self._knobs.unauthorized_body != "standard":
            if self._knobs.unauthorized_body == "empty":
                return web.Response(status=401)
            return web.json_response({"status": "UNAUTHORIZED", "message": "HTTP 401 Unauthorized"}, status=401)
        return web.json_response(error.as_json(self._knobs.code_type), status=error.status)

    def _add_headers(self, request: web.Request, response: web.Response, faults: dict[str, Fault]) -> None:
        response.headers["X-Request-Id"] = secrets.token_hex(8)
        if "no_rate_headers" in faults:
            return
        window = self._rate_limit.window(token_of(request))
        values: tuple[object, ...] = (self._knobs.rate_limit, self._rate_limit.remaining(window), window.reset)
        if bad := faults.get("bad_rate_headers"):
            values = (bad.options["value"],) * 3
        for name, value in zip(("Limit", "Remaining", "Reset"), values, strict=True):
            response.headers[f"X-RateLimit-{name}"] = str(value)

    async def set_date(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set or remove the Date header of a response that is about to be sent."""
        # It must happen here, because aiohttp sets its own header right before.
        if self._knobs.no_date_header:
            response.headers.popall("Date", None)
        else:
            moment = now() + timedelta(seconds=self._knobs.date_skew_seconds)
            response.headers["Date"] = format_datetime(moment, usegmt=True)
