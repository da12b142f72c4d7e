from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.models import ExportJob, File, Page, RateLimit, User, Volume, VolumeObject
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesInputError,
    SevenBridgesNotFoundError,
    SevenBridgesUnreadableItem,
)
from airflow_sb_provider.exports.request import ExportRequest

FILE, OTHER_FILE = "567890abc9b0307bc0414164", "567890abc9b0307bc0414165"
EXPORT = ExportRequest(FILE, "rfranklin/output", "output.vcf")
OTHER = ExportRequest(OTHER_FILE, "rfranklin/output", "other.vcf", overwrite=True, properties={"sse_algorithm": None})
EXPORT_BODY = {
    "source": {"file": FILE},
    "destination": {"volume": "rfranklin/output", "location": "output.vcf"},
    "overwrite": False,
}
OTHER_BODY = {
    "source": {"file": OTHER_FILE},
    "destination": {"volume": "rfranklin/output", "location": "other.vcf"},
    "overwrite": True,
    "properties": {"sse_algorithm": None},
}
PAGE = (("fields", "_all"), ("offset", "0"), ("limit", "100"))

CALLS = [
    # call, method, path, query, body, idempotent
    (calls.start_export(EXPORT, copy_only=False), "POST", "storage/exports", (), EXPORT_BODY, False),
    (
        calls.start_export(OTHER, copy_only=True),
        "POST",
        "storage/exports",
        (("copy_only", "true"),),
        OTHER_BODY,
        False,
    ),
    (
        calls.start_exports([EXPORT, OTHER], copy_only=False),
        "POST",
        "bulk/storage/exports/create",
        (),
        {"items": [EXPORT_BODY, OTHER_BODY]},
        False,
    ),
    (
        calls.start_exports([EXPORT], copy_only=True),
        "POST",
        "bulk/storage/exports/create",
        (("copy_only", "true"),),
        {"items": [EXPORT_BODY]},
        False,
    ),
    (calls.get_export("erand0"), "GET", "storage/exports/erand0", (), None, True),
    (calls.get_exports(["a", "b"]), "POST", "bulk/storage/exports/get", (), {"export_ids": ["a", "b"]}, True),
    (calls.list_exports(), "GET", "storage/exports", PAGE, None, True),
    (calls.list_imports(), "GET", "storage/imports", PAGE, None, True),
    (
        calls.list_imports("me/in", ["COMPLETED"], offset=90),
        "GET",
        "storage/imports",
        (("fields", "_all"), ("offset", "90"), ("limit", "100"), ("volume", "me/in"), ("state", "COMPLETED")),
        None,
        True,
    ),
    (
        calls.list_exports("me/out", ["RUNNING", "FAILED"], offset=200, limit=7),
        "GET",
        "storage/exports",
        (
            ("fields", "_all"),
            ("offset", "200"),
            ("limit", "7"),
            ("volume", "me/out"),
            ("state", "RUNNING"),
            ("state", "FAILED"),
        ),
        None,
        True,
    ),
    (calls.get_file(FILE), "GET", f"files/{FILE}", (), None, True),
    (calls.get_files([FILE]), "POST", "bulk/files/get", (), {"file_ids": [FILE]}, True),
    (
        calls.list_files(
            project="me/p",
            names=["a", "b"],
            tags=["t"],
            metadata={"sample_id": ["s1", "s2"], "case": ["c"]},
            origin_task="task",
        ),
        "GET",
        "files",
        (
            *PAGE,
            ("project", "me/p"),
            ("name", "a"),
            ("name", "b"),
            ("tag", "t"),
            ("metadata.sample_id", "s1"),
            ("metadata.sample_id", "s2"),
            ("metadata.case", "c"),
            ("origin.task", "task"),
        ),
        None,
        True,
    ),
    (calls.list_files(parent="folder"), "GET", "files", (*PAGE, ("parent", "folder")), None, True),
    (calls.get_volume("rfranklin/output"), "GET", "storage/volumes/rfranklin/output", (), None, True),
    (calls.list_volumes(offset=100), "GET", "storage/volumes", (PAGE[0], ("offset", "100"), PAGE[2]), None, True),
    (
        calls.get_volume_object("rfranklin/output", "a b/c&d.vcf"),
        "GET",
        "storage/volumes/rfranklin/output/object",
        (("location", "a b/c&d.vcf"),),
        None,
        True,
    ),
    (
        calls.list_volume_objects("rfranklin/output", "a b/"),
        "GET",
        "storage/volumes/rfranklin/output/list",
        (("fields", "_all"), ("limit", "100"), ("prefix", "a b/")),
        None,
        True,
    ),
    (
        calls.list_volume_objects("o/v", "a/", link="https://x/v2/elsewhere?limit=7&continuation_token=a%2Fb%3D&x="),
        "GET",
        "storage/volumes/o/v/list",
        (
            ("fields", "_all"),
            ("limit", "7"),
            ("prefix", "a/"),
            ("continuation_token", "a/b="),
            ("x", ""),
        ),
        None,
        True,
    ),
    (calls.get_user(), "GET", "user", (), None, True),
    (calls.get_rate_limit(), "GET", "rate_limit", (), None, True),
]


@pytest.mark.parametrize(("call", "method", "path", "query", "body", "idempotent"), CALLS)
def test_the_request_of_each_call(call, method, path, query, body, idempotent):
    assert (call.method, call.path, tuple(call.query), call.body) == (method, path, query, body)
    assert call.idempotent is idempotent


@pytest.mark.parametrize(
    ("volume", "path"),
    [
        ("me@nih.gov/output", "me%40nih.gov/output"),
        ("my division/output", "my%20division/output"),
        ("50%/output", "50%25/output"),
        ("a?b#c/output", "a%3Fb%23c/output"),
        ("a/b/output", "a%2Fb/output"),
        ("a/../../user", "a%2F..%2F../user"),
        ("müller/output", "m%C3%BCller/output"),
        ("a;b&c=d+e:f/output", "a%3Bb%26c%3Dd%2Be%3Af/output"),
    ],
)
def test_owners_of_volumes_may_hold_any_character(volume, path):
    assert calls.get_volume(volume).path == f"storage/volumes/{path}"
    assert calls.get_volume_object(volume, "x").path == f"storage/volumes/{path}/object"


@pytest.mark.parametrize("text", ["", ".", ".."])
@pytest.mark.parametrize("make", [calls.get_file, calls.get_export, calls.get_volume])
def test_an_id_that_leads_to_another_path_is_rejected(make, text):
    with pytest.raises(SevenBridgesInputError, match="is not an id"):
        make(text)


@pytest.mark.parametrize("volume", ["output", "/output", "me/", "../output", "me/..", "./x"])
def test_a_volume_that_leads_to_another_path_is_rejected(volume):
    for make in (calls.get_volume, lambda volume: calls.get_volume_object(volume, "x")):
        with pytest.raises(SevenBridgesInputError):
            make(volume)


@pytest.mark.parametrize("text", ["a/../../user", "../user", "a?b=c", "a#b", "%2e%2e", "a b", "..%2f"])
def test_an_id_stays_one_segment_of_the_path(text):
    url = urlsplit(calls.get_file(text).url("https://api.example/v2"))
    assert url.path.startswith("/v2/files/")
    assert url.path.count("/") == 3
    assert not url.query
    assert not url.fragment


@pytest.mark.parametrize(
    "make",
    [
        lambda text: calls.get_file(text),
        lambda text: calls.get_volume(f"{text}/x"),
        lambda text: calls.get_volume_object("a/b", text),
        lambda text: calls.list_exports(text),
        lambda text: calls.list_imports(text),
    ],
)
def test_text_that_cannot_be_encoded_is_rejected(make):
    with pytest.raises(SevenBridgesInputError):
        make("\ud800").url("https://api.example/v2")


JOB = {"id": "j1", "state": "PENDING", "source": {"file": FILE}}
OTHER_JOB = {"id": "j2", "state": "PENDING", "source": {"file": OTHER_FILE}}
REFUSED = {"status": 403, "code": 9006, "message": "Requested file cannot be exported."}


def test_a_bulk_response_keeps_jobs_and_rejections_in_order():
    call = calls.start_exports([EXPORT, OTHER, EXPORT], copy_only=False)
    results = call.read({"items": [{"error": REFUSED}, {"resource": OTHER_JOB}, {"resource": JOB, "error": None}]}, {})
    assert isinstance(results[0], SevenBridgesApiError)
    assert (results[0].status, results[0].code) == (403, 9006)
    assert [result.id for result in results[1:]] == ["j2", "j1"]


@pytest.mark.parametrize(
    "items",
    [
        [],
        [{"resource": JOB}],
        [{"resource": JOB}, {"resource": OTHER_JOB}, {"resource": JOB}],
        [{"resource": OTHER_JOB}, {"resource": JOB}],
        [{"resource": JOB}, {"resource": JOB}],
        [{"resource": JOB}, {}],
        [{"resource": JOB}, {"resource": None}],
        [{"resource": JOB}, {"resource": []}],
        [{"resource": JOB}, None],
        [{"resource": JOB}, {"resource": {"id": "j2"}}],
        [{"resource": JOB}, {"error": {}}],
        [{"resource": JOB}, {"error": "no"}],
        {"0": {"resource": JOB}},
        None,
    ],
)
def test_a_bulk_submission_response_that_does_not_match_raises_an_error(items):
    with pytest.raises(ValueError, match=r"."):
        calls.start_exports([EXPORT, OTHER], copy_only=False).read({"items": items}, {})


GONE = {"status": 404, "code": 9008, "message": "Requested job does not exist."}
A, B, C = ({"resource": {"id": each, "state": "RUNNING"}} for each in "abc")


@pytest.mark.parametrize(
    ("items", "read"),
    [
        # The items of the response; the result for a, b and c: the id of a job, a code, or None.
        ([A, B, C], ["a", "b", "c"]),
        ([C, A, B], ["a", "b", "c"]),
        ([A, B, C, C], ["a", "b", "c"]),
        ([A, {"error": GONE}, C], ["a", 9008, "c"]),
        ([A, {"error": GONE, "resource": {"id": "b"}}, C], ["a", 9008, "c"]),
        ([C, {"error": GONE, "resource": {"id": "b"}}, A], ["a", 9008, "c"]),
        ([A, {"error": GONE, "resource": None}, {"error": {**GONE, "code": "9005"}}], ["a", 9008, 9005]),
        # The id of an error is unknown if the order differs or an item is missing.
        ([B, {"error": GONE}, C], [None, "b", "c"]),
        ([{"error": GONE}, A, B], ["a", "b", None]),
        ([A, {"error": GONE}], ["a", None, None]),
        ([A, {"error": GONE}, B, C], ["a", "b", "c"]),
        ([{"error": GONE}, B, {"resource": {"id": "d", "state": "RUNNING"}}], [None, "b", None]),
        # One spoiled item.
        ([A, None, C], ["a", None, "c"]),
        ([A, {}, C], ["a", None, "c"]),
        ([A, [], C], ["a", None, "c"]),
        ([A, "b", C], ["a", None, "c"]),
        ([A, {"resource": None}, C], ["a", None, "c"]),
        ([A, {"resource": []}, C], ["a", None, "c"]),
        ([A, {"resource": "b"}, C], ["a", None, "c"]),
        ([A, {"resource": {"id": "b"}}, C], ["a", None, "c"]),
        ([A, {"resource": {"id": "b", "state": None}}, C], ["a", None, "c"]),
        ([A, {"resource": {"id": 7, "state": "RUNNING"}}, C], ["a", None, "c"]),
        ([A, {"resource": {"id": "b\nc", "state": "RUNNING"}}, C], ["a", None, "c"]),
        ([A, {"error": {}}, C], ["a", None, "c"]),
        ([A, {"error": "no"}, C], ["a", None, "c"]),
        ([A, C], ["a", None, "c"]),
        ([A], ["a", None, None]),
        ([B, {"resource": {"id": "b", "state": "FAILED"}}, C], [None, None, "c"]),
    ],
)
def test_items_are_matched_by_their_ids(items, read):
    results = calls.get_exports(["a", "b", "c"]).read({"items": items}, {})
    found = [result.id if isinstance(result, ExportJob) else result.code for result in results]
    assert found == read
    unreadable = [isinstance(result, SevenBridgesUnreadableItem) for result in results]
    assert unreadable == [each is None for each in read]


@pytest.mark.parametrize(
    "items", [[], [None, None], [{}], [{"error": GONE}], [{"resource": JOB}, {"resource": JOB}], None]
)
def test_a_bulk_get_response_without_a_matching_item_raises_an_error(items):
    with pytest.raises(ValueError, match=r"."):
        calls.get_exports(["a", "b"]).read({"items": items}, {})


def test_files_are_matched_by_their_ids():
    body = {"items": [{"resource": {"id": OTHER_FILE}}, None]}
    missing, found = calls.get_files([FILE, OTHER_FILE]).read(body, {})
    assert isinstance(missing, SevenBridgesUnreadableItem)
    assert FILE in str(missing)
    assert found == File(OTHER_FILE)


def test_a_bulk_get_returns_the_error_of_an_id():
    body = {"items": [{"error": {"status": 404, "code": 9008}}, {"resource": OTHER_JOB}]}
    missing, found = calls.get_exports(["j1", "j2"]).read(body, {})
    assert isinstance(missing, SevenBridgesNotFoundError)
    assert found.id == "j2"


@pytest.mark.parametrize("source", [{"file": OTHER_FILE}])
def test_a_job_of_another_file_raises_an_error(source):
    with pytest.raises(ValueError, match=OTHER_FILE):
        calls.start_export(EXPORT, copy_only=False).read({**JOB, "source": source}, {})


@pytest.mark.parametrize("source", [None, {}, {"file": None}, []])
def test_a_job_may_leave_out_its_source(source):
    assert calls.start_export(EXPORT, copy_only=False).read({**JOB, "source": source}, {}).id == "j1"


@pytest.mark.parametrize(
    ("links", "following"),
    [
        ([], None),
        (None, None),
        ("next", None),
        ([{"rel": "prev", "href": "https://x/v2/p"}], None),
        ([{"rel": "next", "href": "https://x/v2/n"}], "https://x/v2/n"),
        ([{"rel": "prev", "href": "p"}, {"rel": "NEXT", "href": "n"}], "n"),
        ([{"rel": "next"}], None),
        ([{"rel": "next", "href": 5}], None),
        (["next"], None),
        ([{"href": "x"}], None),
        ([{"next": "https://x/v2/n"}], "https://x/v2/n"),
        ([{"next": None}, {"next": 5}, {"next": ""}, {"next": "n"}], "n"),
        ([{"rel": "next", "href": ""}], None),
        ([{"rel": ["next"], "href": "x"}], None),
    ],
)
def test_the_link_to_the_next_page(links, following):
    page = calls.list_exports().read({"items": [JOB], "links": links}, {"X-Total-Matching-Query": "7"})
    assert (page.next, page.total, [job.id for job in page.items]) == (following, 7, ["j1"])


@pytest.mark.parametrize("link", ["https://[x/?a=b", "https://x/?" + "a=b&" * 50, "https://x/?a=" + "b" * 10_000])
def test_a_link_that_is_none_is_an_error_of_the_list(link):
    with pytest.raises(
        SevenBridgesApiError, match=r"List of objects on volume o/v: The link to the next page"
    ) as caught:
        calls.list_volume_objects("o/v", link=link)
    assert not caught.value.permanent


@pytest.mark.parametrize("total", ["", "-1", "many", "1.5", "²", "9" * 30])
def test_an_invalid_total_does_not_fail_a_list(total):
    assert calls.list_exports().read({"items": []}, {"X-Total-Matching-Query": total}).items == []


@pytest.mark.parametrize(
    ("call", "body", "value"),
    [
        (calls.get_export("j1"), {"id": "j1", "state": "running"}, ExportJob("j1", "RUNNING")),
        (calls.get_file(FILE), {"id": FILE}, File(FILE)),
        (calls.get_volume("a/b"), {"id": "a/b"}, Volume("a/b")),
        (calls.get_volume_object("a/b", "x"), {}, VolumeObject()),
        (calls.list_volume_objects("a/b"), {"items": [{}]}, Page([VolumeObject()])),
        (calls.get_user(), {"username": "rfranklin"}, User("rfranklin")),
        (calls.get_rate_limit(), {"rate": {"limit": 5, "reset": 9}}, RateLimit(5, None, 9)),
        (calls.list_files(project="a/b"), {"items": []}, Page([])),
        (calls.list_volumes(), {"items": [{"id": "a/b"}]}, Page([Volume("a/b")])),
    ],
)
def test_the_smallest_valid_response_of_each_call(call, body, value):
    assert call.read(body, {}) == value
