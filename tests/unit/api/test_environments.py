from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sb_provider.api.environments import ENVIRONMENTS, origin, resolve_endpoint
from airflow_sb_provider.exceptions import SevenBridgesInputError

API = "https://api.sbgenomics.com/v2"


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("api.sbgenomics.com", API),
        (" api.sbgenomics.com\n", API),
        ("api.sbgenomics.com/", API),
        ("api.sbgenomics.com/v2", API),
        ("api.sbgenomics.com/v2/", API),
        ("https://api.sbgenomics.com", API),
        ("https://api.sbgenomics.com/", API),
        ("https://api.sbgenomics.com/v2", API),
        ("https://api.sbgenomics.com/v2/", API),
        ("HTTPS://API.SBGenomics.com/v2", API),
        ("api.sbgenomics.com:8443", "https://api.sbgenomics.com:8443/v2"),
        ("https://api.sbgenomics.com:8443/v2", "https://api.sbgenomics.com:8443/v2"),
        ("http://localhost:8080", "http://localhost:8080/v2"),
        ("http://127.0.0.1:8080/v2/", "http://127.0.0.1:8080/v2"),
        ("http://127.8.9.1", "http://127.8.9.1/v2"),
        ("http://[::1]:8080", "http://[::1]:8080/v2"),
        ("[::1]:8080", "https://[::1]:8080/v2"),
        ("::1", "https://[::1]/v2"),
        ("2001:db8::5", "https://[2001:db8::5]/v2"),
        ("my_proxy.internal", "https://my_proxy.internal/v2"),
        ("sevenbridges", "https://sevenbridges/v2"),
    ],
)
def test_the_accepted_forms_of_a_host(host, endpoint):
    assert resolve_endpoint(host) == endpoint


@pytest.mark.parametrize(
    ("arguments", "endpoint"),
    [
        ({"host": "api.sbgenomics.com", "port": 8443}, "https://api.sbgenomics.com:8443/v2"),
        ({"host": "api.sbgenomics.com:1", "port": 8443}, "https://api.sbgenomics.com:1/v2"),
        ({"host": "127.0.0.1", "port": 80, "scheme": "http"}, "http://127.0.0.1:80/v2"),
        ({"host": "::1", "port": 8080, "scheme": "http"}, "http://[::1]:8080/v2"),
        ({"host": "https://127.0.0.1", "scheme": "http"}, "https://127.0.0.1/v2"),
        ({"host": "http://platform:8080", "allow_http": True}, "http://platform:8080/v2"),
        ({"host": "platform", "scheme": "http", "allow_http": True}, "http://platform/v2"),
        ({"host": "", "environment": "cgc"}, "https://cgc-api.sbgenomics.com/v2"),
        ({"host": None, "environment": "bdc"}, "https://api.sb.biodatacatalyst.nhlbi.nih.gov/v2"),
        ({"host": "eu-api.sbgenomics.com", "environment": "cgc"}, "https://eu-api.sbgenomics.com/v2"),
    ],
)
def test_the_precedence_of_host_port_scheme_and_environment(arguments, endpoint):
    assert resolve_endpoint(**arguments) == endpoint


def test_the_environments():
    assert {name: environment.endpoint for name, environment in ENVIRONMENTS.items()} == {
        "bdc": "https://api.sb.biodatacatalyst.nhlbi.nih.gov/v2",
        "cgc": "https://cgc-api.sbgenomics.com/v2",
        "cavatica": "https://cavatica-api.sbgenomics.com/v2",
        "sb-us": "https://api.sbgenomics.com/v2",
        "sb-eu": "https://eu-api.sbgenomics.com/v2",
        "sb-cn": "https://api.sevenbridges.cn/v2",
    }


@pytest.mark.parametrize(
    "host",
    [
        "http://api.sbgenomics.com",
        "http://10.0.0.1",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://[2001:db8::1]",
        "http://0.0.0.0",
    ],
)
def test_plain_http_is_rejected_except_on_loopback(host):
    with pytest.raises(SevenBridgesInputError, match="plain http") as caught:
        resolve_endpoint(host)
    assert "allow_http" in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "https://name:s3cret@api.sbgenomics.com",
        "https://s3cret@api.sbgenomics.com",
        "name:s3cret@api.sbgenomics.com",
        "ftp://name:s3cret@api.sbgenomics.com",
        "http://name:s3cret@api.sbgenomics.com",
        "https://name:s3cret@api.sbgenomics.com:port",
        "https://name:s3cret@api.sbgenomics.com:99999",
        "https://name:s3cret/x@api.sbgenomics.com",
        "https://name:s3cret?x@api.sbgenomics.com",
        "https://name:s3cret#x@api.sbgenomics.com",
        "https://name:s3cret@[::1",
        "https://api.sbgenomics.com/name:s3cret@v2",
        "https://api.sbgenomics.com/v2?token=s3cret",
        "https://api.sbgenomics.com/v2#s3cret",
        "https://api.sbgenomics.com:port/v2?token=s3cret",
        "ftp://api.sbgenomics.com/v2?token=s3cret",
    ],
)
def test_credentials_in_the_host_are_rejected_and_not_repeated(host):
    with pytest.raises(SevenBridgesInputError, match=r"^host: ") as caught:
        resolve_endpoint(host)
    assert "s3cret" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "https://",
        "://",
        "https://:8080",
        "ftp://api.sbgenomics.com",
        "api.sbgenomics.com:port",
        "api.sbgenomics.com:99999",
        "[::1",
        "https://[::g]",
        "https://api.sbgenomics.com/v1",
        "https://api.sbgenomics.com/api/v2",
        "https://api.sbgenomics.com/v2/user",
        "api.sbgenomics com",
        "api..sbgenomics.com",
        "api.sbgenomics.com\\@other.example",
        "https://api.sbgenomics.c℀m",
        "x" * 64 + ".com",
        "api%2Esbgenomics.com",
    ],
)
def test_an_invalid_host_is_reported(host):
    with pytest.raises(SevenBridgesInputError, match=r"^host: "):
        resolve_endpoint(host)


@pytest.mark.parametrize("host", [None, "", "  "])
def test_the_error_for_an_empty_host_lists_the_environments(host):
    with pytest.raises(SevenBridgesInputError, match="bdc, cgc, cavatica, sb-us, sb-eu, sb-cn"):
        resolve_endpoint(host)


@pytest.mark.parametrize("environment", ["BDC", "bdc ", "gcp", "https://api.sbgenomics.com"])
@pytest.mark.parametrize("host", ["", "api.sbgenomics.com"])
def test_the_error_for_an_unknown_environment_lists_the_environments(environment, host):
    with pytest.raises(SevenBridgesInputError, match="bdc, cgc, cavatica"):
        resolve_endpoint(host, environment=environment)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.b/v2", "https://A.B:443/x?y", True),
        ("http://a.b", "http://a.b:80/", True),
        ("https://a.b", "http://a.b", False),
        ("https://a.b", "https://a.b:8443", False),
        ("https://a.b", "https://a.b.c", False),
        ("https://a.b", "https://a.b@c.d", False),
        ("https://a.b", "https://[bad", False),
        ("https://a.b", "https://a.b:port", False),
        ("https://a.b", "", False),
    ],
)
def test_two_urls_with_the_same_origin(one, other, same):
    assert (origin(one) == origin(other)) is same


@given(st.text(), st.sampled_from([None, "http", "https"]), st.booleans())
def test_no_host_raises_anything_but_an_input_error(host, scheme, allow_http):
    try:
        endpoint = resolve_endpoint(host, scheme=scheme, allow_http=allow_http)
    except SevenBridgesInputError:
        return
    assert endpoint.startswith(("https://", "http://"))
    assert endpoint.endswith("/v2")
