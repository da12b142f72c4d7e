from __future__ import annotations

import pytest

from airflow_sb_provider.api.environments import ENVIRONMENTS
from airflow_sb_provider.links.urls import file_page, folder_page, object_page, project_page

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
    ["http://127.0.0.1:8080/v2", "https://platform.example/v2", "https://cgc-api.sbgenomics.com.evil.example/v2", ""],
)
def test_an_unknown_endpoint_has_no_pages(endpoint):
    assert project_page(endpoint, "me/it") is None
    assert file_page(endpoint, "me/it", FILE) is None
    assert object_page(endpoint, "s3://bucket/key") is None
    assert folder_page(endpoint, "s3://bucket/key") is None


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
