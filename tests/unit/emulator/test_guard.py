"""No web page and no other user can read from the local Platform, and nobody can read files of the machine."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from airflow_sb_provider.emulator import Emulator
from airflow_sb_provider.emulator.__main__ import main
from airflow_sb_provider.emulator.seed import VCF
from airflow_sb_provider.emulator.storage import Storage
from tests.unit.emulator.conftest import Caller, code, export_body

if TYPE_CHECKING:
    from collections.abc import Sequence

SECRET = b"a file of this machine"
ROUTES = [
    ("GET", "/"),
    ("GET", "/v2/user"),
    ("GET", "/v2/storage/exports"),
    ("POST", "/v2/storage/exports"),
    ("GET", "/nowhere"),
    ("GET", "/_local/state"),
    ("GET", "/_local/requests"),
    ("GET", "/_local/knobs"),
    ("POST", "/_local/knobs"),
    ("POST", "/_local/trouble"),
    ("POST", "/_local/trouble/clear"),
    ("POST", "/_local/exports/x/release"),
    ("GET", "/_local/s3/demo-results/exports/seen"),
    ("HEAD", "/_local/s3/demo-results/exports/seen"),
]


def raw(emulator: Emulator, method: str, target: str, headers: Sequence[str]) -> tuple[int, str, str]:
    """Send a raw request; return status, headers and body of the response."""
    lines = [f"{method} {target} HTTP/1.1", *headers, "Connection: close", "", ""]
    with socket.create_connection((emulator.host, emulator.port), timeout=5) as connection:
        connection.sendall("\r\n".join(lines).encode())
        answer = b""
        while chunk := connection.recv(1 << 16):
            answer += chunk
    head, _, body = answer.decode("latin-1").partition("\r\n\r\n")
    return int(head.split()[1]), head, body


def with_token(emulator: Emulator, *headers: str) -> list[str]:
    return [*headers, f"X-SBG-Auth-Token: {emulator.token}"]


@pytest.fixture(autouse=True)
def seen(emulator):
    emulator.put_object("demo/results", "seen", b"bytes")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Host:"],
        ["Host: evil.example"],
        ["Host: evil.example:{port}"],
        ["Host: 127.0.0.1.evil.example:{port}"],
        ["Host: localhost.evil.example"],
        ["Host: evil.localhost.example."],
        ["Host: 127.0.0.1@evil.example"],
        ["Host: 0.0.0.0:{port}"],
        ["Host: 192.168.0.1"],
        ["Host: [::]"],
        ["Host: [fe80::1]:{port}"],
        ["Host: 127.0.0.1:{port}/evil.example"],
        ["Host: 127.0.0.1:{port}, evil.example"],
        ["Host: 127.0.0.1:{port}", "Host: evil.example"],
        ["Host: evil.example", "Host: 127.0.0.1:{port}"],
        ["Host: evil.example", "X-Forwarded-Host: 127.0.0.1"],
    ],
    ids="+".join,
)
def test_a_host_that_is_not_loopback_is_rejected_on_every_route(emulator, headers):
    headers = [each.format(port=emulator.port) for each in headers]
    for method, target in ROUTES:
        status, head, body = raw(emulator, method, target, with_token(emulator, *headers))
        assert status in (400, 403), (method, target)
        assert "Access-Control" not in head
        assert "demo" not in body
    assert emulator.requests == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:{port}",
        "127.0.0.1",
        "127.8.9.10:1",
        "localhost:{port}",
        "LocalHost:{port}",
        "localhost.:{port}",
        "127.0.0.1.:{port}",
        "[::1]:{port}",
        "[0:0:0:0:0:0:0:1]",
    ],
)
def test_any_loopback_name_or_address_is_accepted(emulator, host):
    headers = with_token(emulator, f"Host: {host.format(port=emulator.port)}")
    assert raw(emulator, "GET", "/v2/user", headers)[0] == 200
    assert raw(emulator, "GET", "/_local/state", headers)[0] == 200


@pytest.mark.parametrize("path", ["/_local/state", "/v2/user", "/_local/s3/demo-results/exports/seen"])
def test_the_host_of_a_complete_url_is_checked_too(emulator, path):
    headers = with_token(emulator, f"Host: 127.0.0.1:{emulator.port}")
    for host in ("evil.example", f"evil.example:{emulator.port}", "127.0.0.1@evil.example", "0.0.0.0", "[::]"):
        assert raw(emulator, "GET", f"http://{host}{path}", headers)[0] in (400, 403), host
    for host in (f"127.0.0.1:{emulator.port}", "localhost", "[::1]:80"):
        assert raw(emulator, "GET", f"http://{host}{path}", headers)[0] == 200, host
    evil = with_token(emulator, "Host: evil.example")
    assert raw(emulator, "GET", f"http://127.0.0.1:{emulator.port}{path}", evil)[0] in (400, 403)


@pytest.mark.parametrize(
    "header",
    [
        "Origin: https://evil.example",
        "Origin: http://127.0.0.1:1",
        "Origin: https://127.0.0.1:{port}",
        "Origin: http://localhost:{port}",
        "Origin: http://127.0.0.1:{port}.evil.example",
        "Origin: null",
        "Origin:",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Sec-Fetch-Site: none, cross-site",
    ],
)
def test_a_web_page_is_rejected_on_every_route(emulator, header):
    headers = with_token(emulator, f"Host: 127.0.0.1:{emulator.port}", header.format(port=emulator.port))
    for method, target in ROUTES:
        status, head, body = raw(emulator, method, target, headers)
        assert status == 403, (method, target)
        assert "Access-Control" not in head
        assert "demo" not in body
    assert emulator.requests == []


def test_a_second_origin_does_not_hide_the_first(emulator):
    own = f"127.0.0.1:{emulator.port}"
    headers = [f"Host: {own}", "Origin: https://evil.example", f"Origin: http://{own}"]
    assert raw(emulator, "GET", "/_local/state", headers)[0] in (400, 403)
    headers = [f"Host: {own}", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: none"]
    assert raw(emulator, "GET", "/_local/state", headers)[0] in (400, 403)


def test_no_preflight_is_granted(emulator):
    value = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for path in ("/_local/knobs", "/v2/storage/exports"):
        answer = requests.options(f"http://127.0.0.1:{emulator.port}{path}", headers=value)
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_a_url_typed_into_a_browser_is_accepted(emulator):
    answer = requests.get(f"http://127.0.0.1:{emulator.port}/_local/state", headers={"Sec-Fetch-Site": "none"})
    assert answer.status_code == 200


def test_no_response_is_run_sniffed_or_embedded_by_a_browser(emulator, caller):
    emulator.put_object("demo/results", "page.html", b"<script>alert(1)</script>")
    emulator.trouble("html", method="GET", path="/v2/projects")
    answers = [
        caller.session.get(f"http://127.0.0.1:{emulator.port}{path}")
        for path in ("/_local/s3/demo-results/exports/page.html", "/_local/state", "/_local/nothing", "/v2/projects")
    ]
    for answer in (*answers, caller.get("/files/%3Cscript%3E"), caller.export(), caller.get("/user")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answers[0].headers["Content-Type"] == "application/octet-stream"


def test_only_the_user_who_runs_it_can_use_routes_without_a_token(emulator, caller, monkeypatch):
    """Linux reports the owner of a connection."""
    base = f"http://127.0.0.1:{emulator.port}/_local"
    paths = ["/state", "/requests", "/s3/demo-results/exports/seen"]
    assert [requests.get(base + path).status_code for path in paths] == [200, 200, 200]
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert [requests.get(base + path).status_code for path in paths] == [403, 403, 403]
    assert requests.post(f"{base}/knobs", json={"stuck": True}).status_code == 403
    assert emulator.knobs.stuck is False
    assert caller.get("/user").status_code == 200


def test_every_user_is_served_where_the_system_does_not_report_the_owner_of_a_connection(emulator, monkeypatch):
    def unreadable(self: Path, *_: object, **__: object) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", unreadable)
    assert requests.get(f"http://127.0.0.1:{emulator.port}/_local/state").status_code == 200


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


# A machine may lack IPv6; a program may reach an IPv4 address through an IPv6 socket.
WAYS = [("127.0.0.1", "127.0.0.1"), *([("::1", "::1"), ("127.0.0.1", "::ffff:127.0.0.1")] if has_ipv6() else [])]


@pytest.mark.parametrize(("host", "way"), WAYS)
def test_every_loopback_address_is_guarded(monkeypatch, host, way):
    with Emulator(host=host) as emulator:

        def status() -> int:
            with socket.create_connection((way, emulator.port), timeout=5) as connection:
                connection.sendall(b"GET /_local/state HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return int(connection.recv(64).split()[1])

        assert Caller(emulator).get("/user").status_code == 200
        assert status() == 200
        mine = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
        assert status() == 403


def test_the_address_of_ipv6_loopback():
    emulator = Emulator(host="::1", port=8000)
    assert emulator.url == "http://[::1]:8000/v2"
    emulator.stop()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.1", "example.com", "localhost.example.com"])
def test_it_listens_on_loopback_only(host, capsys):
    with pytest.raises(ValueError, match="loopback"):
        Emulator(host=host)
    assert main(["--host", host]) == 2
    assert "loopback" in capsys.readouterr().err


def test_localhost_is_one_address():
    with Emulator(host="localhost") as emulator:
        assert emulator.url == f"http://127.0.0.1:{emulator.port}/v2"
        assert Caller(emulator).get("/user").status_code == 200


# Files of the machine


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "storage").mkdir()
    return tmp_path / "storage"


@pytest.fixture
def stored(folder):
    with Emulator(storage=str(folder)) as emulator:
        emulator.put_object("demo/archive", "seen", b"bytes")
        yield emulator


UP = ["..", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "..%5c..", "..%00", "%2e%2e%2f%2e%2e", "%c0%ae%c0%ae", "..;", "."]


@pytest.mark.parametrize("slash", ["/", "%2f", "%2F", "%252f", "\\", "%5c", "//"])
def test_no_spelling_of_a_path_leads_out_of_a_bucket(stored, slash):
    host = [f"Host: 127.0.0.1:{stored.port}"]
    sources = f"_platform{slash}{VCF}"
    for up in UP:
        out = [
            f"{up}{slash}{up}{slash}secret",
            f"{up}{slash}secret",
            f"{up}{slash}{sources}",
            f"demo-archive/{up}{slash}{up}{slash}secret",
            f"demo-archive/{up}{slash}{sources}",
            f"demo-archive/x{slash}{up}{slash}{up}{slash}{up}{slash}secret",
            f"demo-archive{slash}{up}{slash}{up}{slash}secret",
            f"{up}{slash}demo-archive/seen",
        ]
        for target in out:
            status, _, body = raw(stored, "GET", f"/_local/s3/{target}", host)
            assert status in (400, 404), target
            assert "machine" not in body
            assert "##fileformat" not in body


@pytest.mark.parametrize(
    "target",
    [
        "/etc/passwd",
        "//etc/passwd",
        "%2fetc/passwd",
        "%2Fetc%2Fpasswd",
        "demo-archive//etc/passwd",
        "demo-archive/%2fetc%2fpasswd",
        "demo-archive/file:%2f%2f%2fetc%2fpasswd",
        "file:%2f%2f%2fetc/passwd",
        "_platform/" + VCF,
        "%5fplatform/" + VCF,
        "unknown/seen",
        "DEMO-ARCHIVE/seen",
        "demo-archive%00/seen",
        "demo-archive/seen%00",
        "demo-archive/",
        "./seen",
        "%7e/.profile",
        "demo-archive/" + "a" * 300,
        "demo-archive/" + "a/" * 2000,
    ],
)
def test_only_objects_of_known_buckets_are_served(stored, target):
    host = [f"Host: 127.0.0.1:{stored.port}"]
    assert raw(stored, "GET", "/_local/s3/demo-archive/seen", host)[::2] == (200, "bytes")
    status, _, body = raw(stored, "GET", f"/_local/s3/{target}", host)
    assert status in (400, 404)
    assert "root:" not in body


def test_no_symbolic_link_is_followed(stored, folder, tmp_path):
    (folder / "demo-archive" / "link").symlink_to(tmp_path / "secret")
    (folder / "demo-archive" / "up").symlink_to(tmp_path, target_is_directory=True)
    (folder / "demo-archive" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "demo-archive" / "twin").symlink_to("seen")
    os.mkfifo(folder / "demo-archive" / "pipe")
    storage, base = stored.platform.storage, f"http://127.0.0.1:{stored.port}/_local/s3/demo-archive"
    for key in ("link", "up/secret", "loop/demo-archive/seen", "twin", "pipe"):
        assert requests.get(f"{base}/{key}", timeout=5).status_code == 404
        assert storage.stat("demo-archive", key) is None
    assert [each.key for each in storage.list("demo-archive")] == ["seen"]
    caller = Caller(stored)
    stored.knobs.update(pending_seconds=0, running_seconds=0)
    for location in ("link", "up/secret", "up/new", "loop/new"):
        job = caller.ended(caller.export(location=location, volume="demo/archive", overwrite=True, copy_only="true"))
        assert job["error"]["code"] == 9100, location
    assert (tmp_path / "secret").read_bytes() == SECRET
    assert sorted(each.name for each in tmp_path.iterdir()) == ["secret", "storage"]


@pytest.mark.parametrize(
    "location",
    [
        *("../../x", "/../../x", "..", "a/../../../x", "../demo-results/x", "../_platform/x", "..\\..\\x", "%2e%2e/x"),
        *("/etc/x", "~/x", "x\0y", "\0", "file:///etc/x", "a//../x", "ü\u202e"),
    ],
)
def test_an_export_stays_in_its_bucket_whatever_its_location(stored, folder, tmp_path, location):
    stored.knobs.update(pending_seconds=0, running_seconds=0)
    caller = Caller(stored)
    before = {path for path in tmp_path.rglob("*") if folder / "demo-archive" not in path.parents}
    job = caller.ended(caller.export(location=location, volume="demo/archive", copy_only="true"))
    assert job["state"] == "COMPLETED"
    assert stored.object_bytes("demo/archive", location).startswith(b"##fileformat")
    assert location in [each.key for each in stored.platform.storage.list("demo-archive")]
    assert {path for path in tmp_path.rglob("*") if folder / "demo-archive" not in path.parents} == before
    (made,) = (path for path in (folder / "demo-archive").rglob("*") if path.is_file() and path.name != "seen")
    assert made.stat().st_size
    found = caller.get("/storage/volumes/demo/archive/object", params={"location": location})
    assert found.json()["location"] == location


@pytest.mark.parametrize("prefix", ["..", "../..", "/", "../demo-results", "a/../../.."])
def test_a_volumes_prefix_stays_in_its_bucket_too(stored, folder, prefix):
    stored.knobs.update(pending_seconds=0, running_seconds=0)
    stored.add_volume("demo/odd", bucket="odd", prefix=prefix)
    caller = Caller(stored)
    assert caller.ended(caller.export(location="x", volume="demo/odd", copy_only="true"))["state"] == "COMPLETED"
    assert [path.parts[len(folder.parts)] for path in folder.rglob("x")] == ["odd"]


def test_a_location_that_no_store_can_write(emulator, caller):
    assert code(caller.export(location="x\ud800")) == (400, 9011)
    assert caller.ended(caller.export(location="a" * 300))["error"]["code"] == 9100


@pytest.mark.parametrize(
    "bucket", ["..", ".", "../x", "a/b", "/etc", "_platform", "", "a\\b/..", "x\0", "ä", "-x", "~"]
)
def test_invalid_bucket_names(stored, tmp_path, bucket):
    before = set(tmp_path.rglob("*"))
    if bucket:
        with pytest.raises(ValueError, match="bucket"):
            stored.add_volume("demo/odd", bucket=bucket)
    storage = stored.platform.storage
    with pytest.raises(FileNotFoundError):
        storage.write(bucket, "x", b"")
    with pytest.raises(FileNotFoundError):
        storage.read(bucket, "secret")
    with pytest.raises(FileNotFoundError):
        storage.list(bucket)
    assert storage.stat(bucket, "secret") is None
    assert set(tmp_path.rglob("*")) == before


def test_a_bucket_that_is_a_symbolic_link_is_not_used(folder, tmp_path):
    (folder / "demo-archive").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(ValueError, match="symbolic link"):
        Emulator(storage=str(folder))


def test_file_ids_cannot_leave_the_folder(stored, folder, tmp_path):
    for number, file_id in enumerate(("../../x", "/etc/x", "..", "a/b", "x\0")):
        stored.add_file(f"f{number}", b"content", file_id=file_id)
        assert stored.platform.storage.read_source(file_id) == b"content"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["secret", "storage"]
    assert all(path.parent == folder / "_platform" for path in folder.rglob("*x*"))


def test_stored_files_are_private(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old").chmod(0o755)
    (tmp_path / "old" / "demo-results").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "old")
    for where in (tmp_path / "new" / "deep", tmp_path / "old", tmp_path / "link"):
        with Emulator(storage=str(where)) as emulator:
            emulator.put_object("demo/results", "a/b", b"")
        below = [path for path in where.resolve().iterdir() if path.is_dir()]
        assert {path.name for path in below} == {"_platform", "demo-results", "demo-archive", "demo-readonly"}
        assert {path.stat().st_mode & 0o777 for path in below} == {0o700}
    assert (tmp_path / "new" / "deep").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o755
    with Emulator() as emulator:
        temporary = Path(emulator.platform.storage.url.removeprefix("file://"))
        assert temporary.stat().st_mode & 0o777 == 0o700


def test_real_buckets_are_not_served(s3_endpoint):
    with Emulator(storage="s3://platform-bytes-2", storage_endpoint=s3_endpoint) as emulator:
        emulator.put_object("demo/results", "seen", b"bytes")
        for path in ("demo-results/exports/seen", "platform-bytes-2/_platform/" + VCF, "demo-results"):
            url = f"http://127.0.0.1:{emulator.port}/_local/s3/{path}"
            assert requests.get(url).status_code == 404
        assert emulator.s3_environment() == {}
        storage = Storage("s3://platform-bytes-2", s3_endpoint)
        assert storage.stat("demo-results", "exports/seen") is None


# Limits


def test_a_body_is_limited_and_recorded_for_users_only(emulator, caller):
    body = json.dumps({**export_body(), "padding": "x" * (5 << 20)})
    headers = {"Content-Type": "application/json"}
    assert caller.session.post(f"{emulator.url}/storage/exports", data=body, headers=headers).status_code == 413
    for token in ("wrong", ""):
        requests.post(f"{emulator.url}/storage/exports", json=export_body(), headers={"X-SBG-Auth-Token": token})
    assert [record.json for record in emulator.requests] == [None, None]
    deep = caller.session.post(f"{emulator.url}/storage/exports", data="[" * 100_000, headers=headers)
    assert code(deep) == (400, 9011)
    local = f"http://127.0.0.1:{emulator.port}/_local/knobs"
    assert requests.post(local, data="[" * 100_000, headers=headers).status_code == 400


@pytest.mark.parametrize(
    ("value", "status", "body"),
    [
        ("bytes=1-2", 206, b"yt"),
        ("bytes=1-", 206, b"ytes"),
        ("bytes=0-99", 206, b"bytes"),
        ("bytes=5-", 416, b""),
        ("bytes=3-1", 416, b""),
        ("bytes=" + "9" * 18 + "-", 416, b""),
        ("bytes=" + "9" * 5000 + "-", 200, b"bytes"),
        ("bytes=0-1,3-4", 200, b"bytes"),
        ("nonsense", 200, b"bytes"),
    ],
)
def test_ranges(emulator, value, status, body):
    url = f"http://127.0.0.1:{emulator.port}/_local/s3/demo-results/exports/seen"
    answer = requests.get(url, headers={"Range": value})
    assert (answer.status_code, answer.content) == (status, body)


# The token


def test_the_token_of_the_environment_is_not_used(monkeypatch):
    monkeypatch.setenv("SB_AUTH_TOKEN", "f" * 32)
    emulator = Emulator()
    assert re.fullmatch("[0-9a-f]{32}", emulator.token)
    assert emulator.token != "f" * 32
    emulator.stop()


@pytest.mark.parametrize("token", ["", " ", "a b", "a\nX-Evil: b", "ü", "x" * 513])
def test_invalid_tokens(token):
    with pytest.raises(ValueError, match="token"):
        Emulator(token=token)
