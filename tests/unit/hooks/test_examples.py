"""The two example requests of the API's page "Start an export job", as the hooks send them."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from airflow_sb_provider.api import calls
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesAsyncHook, SevenBridgesHook
from tests.unit.hooks.both_hooks import EXPORT, FILE, JOB, TOKEN

HOST = "api.sb.biodatacatalyst.nhlbi.nih.gov"
BODY = {
    "destination": {"volume": "rfranklin/output", "location": "output.vcf"},
    "source": {"file": "567890abc9b0307bc0414164"},
    "overwrite": False,
}
EXAMPLES = pytest.mark.parametrize(
    ("copy_only", "query"), [(False, ""), (True, "copy_only=true")], ids=["normal", "copy only"]
)


@EXAMPLES
def test_the_examples_on_requests(connect, requests_mock, copy_only, query):
    connect(extra={"environment": "bdc"})
    requests_mock.post(f"https://{HOST}/v2/storage/exports", json=JOB)
    job = SevenBridgesHook().start_export(FILE, "rfranklin/output", "output.vcf", copy_only=copy_only)
    assert (job.id, job.state) == ("erand0md6gMeuLlhWTNVj192RsnOMgdB", "PENDING")
    (sent,) = requests_mock.request_history
    assert (sent.method, sent.scheme, sent.hostname, sent.path, sent.query) == (
        "POST",
        "https",
        HOST,
        "/v2/storage/exports",
        query,
    )
    assert sent.headers["X-SBG-Auth-Token"] == TOKEN
    assert sent.headers["Content-Type"] == "application/json"
    assert "Authorization" not in sent.headers
    assert json.loads(sent.body) == BODY


@pytest.mark.asyncio
@EXAMPLES
async def test_the_examples_on_aiohttp(connect, copy_only, query):
    seen = []

    async def start(request):
        seen.append((request.method, request.raw_path, request.headers.copy(), await request.json()))
        return web.json_response(JOB)

    app = web.Application()
    app.router.add_post("/v2/storage/exports", start)
    async with TestServer(app) as server:
        connect(f"http://{server.host}:{server.port}")
        async with SevenBridgesAsyncHook() as hook:
            job = await hook.send(calls.start_export(EXPORT, copy_only=copy_only))
    assert (job.id, job.state) == ("erand0md6gMeuLlhWTNVj192RsnOMgdB", "PENDING")
    ((method, path, headers, body),) = seen
    assert (method, path) == ("POST", "/v2/storage/exports" + (f"?{query}" if query else ""))
    assert headers["X-SBG-Auth-Token"] == TOKEN
    assert headers.getall("Content-Type") == ["application/json"]
    assert "Authorization" not in headers
    assert body == BODY


@pytest.mark.asyncio
async def test_the_async_hook_gets_many_exports(connect):
    async def get(request: web.Request) -> web.Response:
        ids = (await request.json())["export_ids"]
        return web.json_response({"items": [{"resource": {**JOB, "id": each}} for each in ids]})

    app = web.Application()
    app.router.add_post("/v2/bulk/storage/exports/get", get)
    async with TestServer(app) as server:
        connect(f"http://{server.host}:{server.port}")
        async with SevenBridgesAsyncHook() as hook:
            jobs = await hook.get_exports(["one", "two"])
    assert [job.id for job in jobs] == ["one", "two"]
