from __future__ import annotations

import pytest

from airflow_sb_provider.api.environments import ENVIRONMENTS
from airflow_sb_provider.links.urls import file_page, folder_page, is_page, object_page, project_page

CGC = ENVIRONMENTS["cgc"].endpoint
FILE = "5f0000000000000000000001"


def test_pages_of_the_platform():
    assert file_page(CGC, "me/my-project", FILE) == f"https://cgc.sbgenomics.com/u/me/my-project/files/{FILE}/"
    assert project_page(CGC, "me/my-project") == "https://cgc.sbgenomics.com/u/me/my-project/"


@pytest.mark.parametrize("name", [name for name in ENVIRONMENTS if name != "sb-cn"])
def test_every_environment_has_pages(name):
    environment = ENVIRONMENTS[name]
    assert file_page(environment.endpoint, "me/it", FILE).startswith(f"{environment.web}/u/me/it/")


def test_pages_of_the_clouds():
    assert object_page(CGC, "s3://my-bucket/a b/c+d&e.txt") == (
        "https://s3.console.aws.amazon.com/s3/object/my-bucket?prefix=a%20b/c%2Bd%26e.txt"
    )
    assert object_page(CGC, "gs://my-bucket/a b/c?d#e.txt") == (
        "https://console.cloud.google.com/storage/browser/_details/my-bucket/a%20b/c%3Fd%23e.txt"
    )
    assert (
        folder_page(CGC, "s3://my-bucket/a/b") == "https://s3.console.aws.amazon.com/s3/buckets/my-bucket?prefix=a/b/"
    )
    assert folder_page(CGC, "s3://my-bucket/") == "https://s3.console.aws.amazon.com/s3/buckets/my-bucket"
    assert folder_page(CGC, "gs://my-bucket/a/") == "https://console.cloud.google.com/storage/browser/my-bucket/a"
    assert folder_page(CGC, "gs://my-bucket/") == "https://console.cloud.google.com/storage/browser/my-bucket"


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://127.0.0.1:8080/v2",
        "http://10.0.0.1:8080/v2",
        "https://platform.example/v2",
        "https://cgc-api.sbgenomics.com.evil.example/v2",
        "",
    ],
)
def test_an_unknown_endpoint_has_no_pages(endpoint):
    assert project_page(endpoint, "me/it") is None
    assert file_page(endpoint, "me/it", FILE) is None
    assert object_page(endpoint, "s3://bucket/key") is None
    assert folder_page(endpoint, "s3://bucket/key") is None


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080"])
def test_the_local_platform_has_pages_of_its_own(host):
    endpoint, pages = f"http://{host}/v2", f"http://{host}/_local/pages"
    assert project_page(endpoint, "me/it") == f"{pages}/u/me/it/"
    # The project is known only after the export, and is not needed here.
    assert file_page(endpoint, None, FILE) == f"{pages}/files/{FILE}/"
    assert file_page(endpoint, "me/it", None) is None
    assert object_page(endpoint, "s3://b/a b/c?d") == f"{pages}/buckets/b/a%20b/c%3Fd"
    assert folder_page(endpoint, "gs://b/a b/") == f"{pages}/buckets/b/a%20b/"
    assert folder_page(endpoint, "s3://b/") == f"{pages}/buckets/b/"


def test_a_link_leads_only_to_https_or_to_the_local_platforms_pages():
    assert is_page("https://x")
    assert is_page("http://127.0.0.1:1/_local/pages/")
    for address in (None, {}, "", "http://127.0.0.1:1/", "http://x/_local/pages/", "file:///x", "javascript:alert(1)"):
        assert not is_page(address)


def test_an_incomplete_address_has_no_page():
    assert file_page(ENVIRONMENTS["sb-cn"].endpoint, "me/it", FILE) is None
    for project in (None, "", "me", "me/", "/it", "me/it/more", "../it", "me/.."):
        assert file_page(CGC, project, FILE) is None
    assert file_page(CGC, "me/it", None) is None
    for uri in (None, "", "s3://", "s3://bucket", "s3://bucket/", "oss://bucket/key", "https://bucket/key"):
        assert object_page(CGC, uri) is None
    assert folder_page(CGC, "oss://bucket/key") is None


def test_hostile_names_are_quoted():
    page = file_page(CGC, "me/<script>", 'x"/../?y#z')
    assert page == "https://cgc.sbgenomics.com/u/me/%3Cscript%3E/files/x%22%2F..%2F%3Fy%23z/"
    page = object_page(CGC, "s3://bucket?x#y/javascript:alert(1)")
    assert page.startswith("https://s3.console.aws.amazon.com/s3/object/bucket%3Fx%23y?prefix=javascript%3A")
