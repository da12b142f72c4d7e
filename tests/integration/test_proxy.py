"""Both hooks with a real forward proxy, and with a server whose certificate a private authority signed."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import ssl
import subprocess
from contextlib import contextmanager

import proxy
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_sb_provider.api import calls
from airflow_sb_provider.exceptions import SevenBridgesConnectionError, SevenBridgesReplyLost
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from tests.unit.hooks.both_hooks import EXPORT, JOB, TOKEN, VARIABLES, AnyHook, Clock, connection_variable
from tests.unit.hooks.servers import drop, free_port, reply, serving

START = calls.start_export(EXPORT, copy_only=False)
GOOD = reply({**JOB, "username": "me"})


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(params=["requests", "aiohttp"])
def any_hook(request):
    return AnyHook(request.param)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    clock.install(monkeypatch)
    return clock


@pytest.fixture
def connect(monkeypatch):
    return lambda host, **fields: monkeypatch.setenv(*connection_variable(host, **fields))


@pytest.fixture
def platform():
    with serving(GOOD) as server:
        yield server


@contextmanager
def forwarding(*options):
    usual = ["--hostname=127.0.0.1", "--port=0", "--num-workers=1", "--num-acceptors=1", "--log-level=e"]
    with proxy.Proxy([*usual, *options]) as running:
        yield f"127.0.0.1:{running.flags.port}"


@pytest.fixture(scope="module")
def forward_proxy():
    with forwarding() as address:
        yield address


@pytest.fixture(scope="module")
def closed_proxy():
    with forwarding("--basic-auth", "me:p@ss") as address:
        yield address


def came_through_the_proxy(seen):
    return "proxy.py" in (seen.headers["Via"] or "")


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("HTTP_PROXY", "http://{}"),
        ("http_proxy", "http://{}"),
        ("HTTP_PROXY", "{}"),
        ("HTTP_PROXY", "http://{}/"),
        ("ALL_PROXY", "http://{}"),
    ],
)
def test_the_environments_proxy_is_used(any_hook, platform, connect, monkeypatch, forward_proxy, name, form):
    connect(platform.url)
    monkeypatch.setenv(name, form.format(forward_proxy))
    assert any_hook.send(START).id == JOB["id"]
    (seen,) = platform.seen
    assert came_through_the_proxy(seen)
    assert (seen.method, seen.path) == ("POST", "/v2/storage/exports")
    assert seen.headers["X-SBG-Auth-Token"] == TOKEN


@pytest.mark.parametrize(
    ("no_proxy", "direct"),
    [("127.0.0.1", True), ("127.0.0.0/8", True), ("*", True), ("example.com,127.0.0.1", True), ("example.com", False)],
)
def test_the_no_proxy_variable_is_respected(any_hook, platform, connect, monkeypatch, forward_proxy, no_proxy, direct):
    connect(platform.url)
    monkeypatch.setenv("HTTP_PROXY", f"http://{forward_proxy}")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    any_hook.send(START)
    assert came_through_the_proxy(platform.seen[0]) is not direct


def test_another_schemes_proxy_is_not_used(any_hook, platform, connect, monkeypatch):
    connect(platform.url)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    any_hook.send(START)
    assert not came_through_the_proxy(platform.seen[0])


def test_the_path_stays_raw_through_a_proxy(any_hook, platform, connect, monkeypatch, forward_proxy):
    connect(platform.url)
    monkeypatch.setenv("HTTP_PROXY", f"http://{forward_proxy}")
    platform.answers = [reply({"id": "v"})]
    any_hook.send(calls.get_volume("a/b@c %/out"))
    assert platform.seen[0].path == "/v2/storage/volumes/a%2Fb%40c%20%25/out"


def test_credentials_are_sent_only_to_the_proxy(any_hook, platform, connect, monkeypatch, closed_proxy):
    connect(platform.url)
    monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@{closed_proxy}")
    assert any_hook.send(START).id == JOB["id"]
    (seen,) = platform.seen
    assert came_through_the_proxy(seen)
    assert "Authorization" not in seen.headers


def test_a_rejection_by_a_proxy_is_reported_without_its_password(
    any_hook, platform, connect, monkeypatch, closed_proxy
):
    connect(platform.url)
    monkeypatch.setenv("HTTP_PROXY", f"http://me:s3cret@{closed_proxy}")
    # A 407 may come from the server, so the response to a submission counts as lost.
    with pytest.raises(SevenBridgesReplyLost, match="Proxy Authentication Required") as caught:
        any_hook.send(START)
    assert caught.value.__cause__.status == 407
    assert "s3cret" not in str(caught.value)
    assert platform.seen == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_unreachable_proxy_is_not_a_lost_response(any_hook, connect, monkeypatch, clock, scheme):
    connect(f"{scheme}://127.0.0.1:{free_port()}")
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://me:s3cret@127.0.0.1:{free_port()}")
    with pytest.raises(SevenBridgesConnectionError) as caught:
        any_hook.send(START)
    assert not caught.value.sent
    assert "s3cret" not in str(caught.value) + repr(caught.value.__cause__)
    assert len(clock.pauses) == 4


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1080", "http://[bad", "http://127.0.0.1:port"])
def test_an_unusable_proxy_is_not_a_lost_response(any_hook, platform, connect, monkeypatch, value):
    connect(platform.url)
    monkeypatch.setenv("HTTP_PROXY", value)
    with pytest.raises(SevenBridgesConnectionError) as caught:
        any_hook.send(START)
    assert not caught.value.sent
    assert platform.seen == []


def test_a_proxy_that_drops_the_connection_is_a_lost_response(any_hook, platform, connect, monkeypatch):
    connect(platform.url)
    with serving(drop) as dropping:
        monkeypatch.setenv("HTTP_PROXY", dropping.url)
        with pytest.raises(SevenBridgesReplyLost):
            any_hook.send(START)
        assert len(dropping.seen) == 1


def certificate(name, signer=None, alternatives=(), signer_key=None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer.subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(signer_key or key, hashes.SHA256()), key


def pem(certificate, key=None):
    text = certificate.public_bytes(serialization.Encoding.PEM)
    if key:
        text += key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    return text


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Create the certificates of a private authority, of a server, and of another host."""
    folder = tmp_path_factory.mktemp("authority")
    root, root_key = certificate("Private authority")
    here, other = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))], [x509.DNSName("other.example")]
    (folder / "root.pem").write_bytes(pem(root))
    (folder / "here.pem").write_bytes(pem(*certificate("here", root, here, root_key)))
    (folder / "other.pem").write_bytes(pem(*certificate("other", root, other, root_key)))
    return folder


def secured(folder, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / name)
    return serving(GOOD, ssl_context=context)


@pytest.fixture
def secure_platform(authority):
    with secured(authority, "here.pem") as server:
        yield server


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_environments_authority_is_trusted(any_hook, secure_platform, authority, connect, monkeypatch, name):
    connect(secure_platform.url)
    monkeypatch.setenv(name, str(authority / "root.pem"))
    assert any_hook.send(START).id == JOB["id"]


def test_the_connections_authority_is_trusted(any_hook, secure_platform, authority, connect, monkeypatch):
    connect(secure_platform.url, extra={"ca_bundle": str(authority / "root.pem")})
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
    assert any_hook.send(START).id == JOB["id"]


@pytest.mark.skipif(not shutil.which("openssl"), reason="a folder of authorities is made by openssl")
def test_a_folder_of_authorities_is_trusted(any_hook, secure_platform, authority, connect, tmp_path):
    root = authority / "root.pem"
    hashed = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", root], check=True, capture_output=True, text=True
    )
    shutil.copy(root, tmp_path / f"{hashed.stdout.strip()}.0")
    connect(secure_platform.url, extra={"ca_bundle": str(tmp_path)})
    assert any_hook.send(START).id == JOB["id"]


def assert_not_trusted(any_hook, server, words):
    with pytest.raises(SevenBridgesConnectionError, match=words) as caught:
        any_hook.send(START)
    assert not caught.value.sent
    assert server.seen == []
    assert TOKEN not in str(caught.value)


def test_an_untrusted_certificate_is_not_a_lost_response(any_hook, secure_platform, connect):
    connect(secure_platform.url)
    assert_not_trusted(any_hook, secure_platform, "(?i)certificate.verify.failed")
    passed, words = SevenBridgesHook().test_connection()
    assert not passed
    assert "certificate verify failed" in words


def test_a_certificate_of_another_host_is_not_trusted(any_hook, authority, connect):
    with secured(authority, "other.pem") as server:
        connect(server.url, extra={"ca_bundle": str(authority / "root.pem")})
        assert_not_trusted(any_hook, server, "127.0.0.1")


@pytest.mark.parametrize("form", ["http://{}", "{}"])
def test_a_tunnel_through_the_proxy(any_hook, secure_platform, authority, connect, monkeypatch, forward_proxy, form):
    connect(secure_platform.url, extra={"ca_bundle": str(authority / "root.pem")})
    monkeypatch.setenv("HTTPS_PROXY", form.format(forward_proxy))
    assert any_hook.send(START).id == JOB["id"]
    assert not came_through_the_proxy(secure_platform.seen[0])


def test_the_certificate_is_checked_through_a_tunnel_too(
    any_hook, secure_platform, connect, monkeypatch, forward_proxy
):
    connect(secure_platform.url)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{forward_proxy}")
    assert_not_trusted(any_hook, secure_platform, "(?i)certificate.verify.failed")


def test_a_rejected_tunnel_is_not_a_lost_response(
    any_hook, secure_platform, authority, connect, monkeypatch, closed_proxy
):
    connect(secure_platform.url, extra={"ca_bundle": str(authority / "root.pem")})
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:s3cret@{closed_proxy}")
    with pytest.raises(SevenBridgesConnectionError, match="407") as caught:
        any_hook.send(START)
    assert not caught.value.sent
    assert "s3cret" not in str(caught.value)
    assert secure_platform.seen == []
