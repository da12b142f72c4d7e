from __future__ import annotations

import pickle
import re
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.models import ExportJob, VolumeObject
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesAuthError,
    SevenBridgesConnectionError,
    SevenBridgesError,
    SevenBridgesForbiddenError,
    SevenBridgesInputError,
    SevenBridgesNotFoundError,
    SevenBridgesReplyLost,
)
from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from tests.unit.hooks.servers import drop, reply

REFUSED = {"status": 403, "code": 9006, "message": "Requested file cannot be exported."}


def exports(count, **options):
    return [ExportRequest(f"{n:024x}", "me/out", f"{n}.vcf", **options) for n in range(count)]


def bulk(rejected=()):
    """Respond to a bulk submission, rejecting some files."""

    def answer(handler):
        items = []
        for item in handler.server.platform.seen[-1].json["items"]:
            number = int(item["source"]["file"], 16)
            job = {"id": f"job{number}", "state": "PENDING", "source": item["source"]}
            items.append({"error": REFUSED} if number in rejected else {"resource": job})
        reply({"items": items})(handler)

    return answer


@pytest.fixture
def hook(platform, connect, clock):
    connect(platform.url)
    return SevenBridgesHook()


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50])])
@pytest.mark.parametrize("copy_only", [False, True])
def test_exports_are_submitted_in_requests_of_at_most_a_hundred(hook, platform, count, sizes, copy_only):
    platform.answers = [bulk()]
    results = hook.start_exports(exports(count, copy_only=copy_only), copy_only=copy_only)
    assert [result.id for result in results] == [f"job{n}" for n in range(count)]
    assert [len(seen.json["items"]) for seen in platform.seen] == sizes
    query = "?copy_only=true" if copy_only else ""
    assert {seen.path for seen in platform.seen} <= {f"/v2/bulk/storage/exports/create{query}"}


def test_rejections_are_returned_in_the_order_of_the_exports(hook, platform):
    platform.answers = [bulk(rejected={0, 99, 100, 149})]
    results = hook.start_exports(exports(150))
    assert [n for n, result in enumerate(results) if isinstance(result, SevenBridgesForbiddenError)] == [
        0,
        99,
        100,
        149,
    ]
    assert [result.id for result in results if isinstance(result, ExportJob)] == [
        f"job{n}" for n in range(150) if n not in (0, 99, 100, 149)
    ]


@pytest.mark.parametrize("count", [1, 101])
def test_a_rejected_first_request_raises_its_error(hook, platform, count):
    platform.answers = [reply({"status": 401, "code": 90001}, 401)]
    with pytest.raises(SevenBridgesAuthError):
        hook.start_exports(exports(count))
    assert len(platform.seen) == 1


def test_a_rejected_later_request_keeps_the_started_exports(hook, platform):
    platform.answers = [bulk(rejected={7}), reply({"status": 401, "code": 90001}, 401)]
    results = hook.start_exports(exports(250))
    assert len(results) == 250
    assert len(platform.seen) == 2
    assert [result.id for n, result in enumerate(results[:100]) if n != 7] == [f"job{n}" for n in range(100) if n != 7]
    assert all(isinstance(result, SevenBridgesAuthError) for result in results[100:])


@pytest.mark.parametrize(
    "answer",
    [drop, reply({}, 502), reply({"items": []}), reply(b"<html>"), reply({"items": [{"resource": {}}] * 100})],
    ids=["dropped", "502", "too few", "HTML", "no jobs"],
)
def test_a_lost_response_to_the_second_request_keeps_the_results_of_the_first(hook, platform, answer):
    platform.answers = [bulk(rejected={7}), answer]
    with pytest.raises(SevenBridgesReplyLost) as caught:
        hook.start_exports(exports(250))
    assert len(platform.seen) == 2
    answered = caught.value.answered
    assert len(answered) == 100
    assert isinstance(answered[7], SevenBridgesForbiddenError)
    assert [result.id for n, result in enumerate(answered) if n != 7] == [f"job{n}" for n in range(100) if n != 7]


def test_an_unsent_second_request_keeps_the_results_of_the_first(hook, platform, clock, monkeypatch):
    """The second request was not sent, but the exports of the first one have started."""
    send = hook._send_once

    def unreachable_later(call):
        if platform.seen:
            raise SevenBridgesConnectionError("No answer: connection refused", sent=False)
        return send(call)

    monkeypatch.setattr(hook, "_send_once", unreachable_later)
    platform.answers = [bulk()]
    results = hook.start_exports(exports(150))
    assert [result.id for result in results[:100]] == [f"job{n}" for n in range(100)]
    assert len(results) == 150
    assert all(isinstance(result, SevenBridgesApiError) for result in results[100:])
    assert not any(result.permanent for result in results[100:])
    assert "connection refused" in str(results[100])


def test_results_in_another_order_count_as_a_lost_response(hook, platform):
    jobs = [{"id": "x", "state": "PENDING", "source": {"file": export.file}} for export in exports(2)]
    platform.answers = [reply({"items": [{"resource": job} for job in reversed(jobs)]})]
    with pytest.raises(SevenBridgesReplyLost, match="expected an export of file"):
        hook.start_exports(exports(2))
    assert len(platform.seen) == 1


def test_an_export_with_copy_only_is_not_submitted_as_a_move(hook, platform):
    with pytest.raises(SevenBridgesInputError, match=r"exports\[2\]\.copy_only"):
        hook.start_exports([*exports(2), *exports(1, copy_only=True)])
    assert platform.seen == []


def test_exports_may_be_mappings_and_each_invalid_one_is_reported(hook, platform):
    good = {"file": f"{0:024x}", "volume": "me/out", "location": "x"}
    platform.answers = [bulk()]
    assert [job.id for job in hook.start_exports([good, exports(2)[1]])] == ["job0", "job1"]
    with pytest.raises(SevenBridgesInputError) as caught:
        hook.start_exports([good, {**good, "file": "x"}, {**good, "color": "red"}, {**good, "location": "/"}])
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "exports[1].file",
        "exports[2]",
        "exports[3].location",
    ]
    assert len(platform.seen) == 1


def test_all_invalid_arguments_are_reported_and_nothing_is_sent(hook, platform):
    with pytest.raises(SevenBridgesInputError) as caught:
        hook.start_export("x", "output", "/a/", copy_only="perhaps", properties={"sse": 1})
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "file",
        "volume",
        "location",
        "copy_only",
        "properties",
    ]
    assert platform.seen == []


def answer_ids(key):
    def answer(handler):
        ids = handler.server.platform.seen[-1].json[key]
        items = [
            {"error": {"status": 404, "code": 9008}} if id == "gone" else {"resource": {"id": id, "state": "RUNNING"}}
            for id in ids
        ]
        reply({"items": items})(handler)

    return answer


@pytest.mark.parametrize("count", [0, 1, 100, 101, 250])
@pytest.mark.parametrize(("method", "key"), [("get_exports", "export_ids"), ("get_files", "file_ids")])
def test_ids_are_fetched_in_requests_of_at_most_a_hundred(hook, platform, method, key, count):
    platform.answers = [answer_ids(key)]
    ids = [f"id{n}" if n != 3 else "gone" for n in range(count)]
    results = getattr(hook, method)(ids)
    assert [getattr(result, "id", "gone") for result in results] == ids
    assert all(isinstance(result, SevenBridgesNotFoundError) for result in results[3:4])
    assert [len(seen.json[key]) for seen in platform.seen] == [100] * (count // 100) + [count % 100] * (count % 100 > 0)


def spoiled(key, bad, how):
    """Respond to a bulk get; ids in ``bad`` spoil their item or the whole response."""

    def answer(handler):
        ids = handler.server.platform.seen[-1].json[key]
        items = [{"resource": {"id": each, "state": "RUNNING"}} for each in ids]
        if how == "refused" and bad & set(ids):
            reply({"status": 400, "code": 90000, "message": "Bad request."}, 400)(handler)
            return
        if how == "undecodable" and bad & set(ids):
            reply(b'{"items": [{"resource": {"id": "x\\u0000", "state": "RUNNING"}}]}')(handler)
            return
        if how == "shuffled":
            items.reverse()
        if how == "left out":
            items = [item for item in items if item["resource"]["id"] not in bad]
        if how == "null":
            items = [None if item["resource"]["id"] in bad else item for item in items]
        reply({"items": items})(handler)

    return answer


BULK_GETS = pytest.mark.parametrize(("method", "key"), [("get_exports", "export_ids"), ("get_files", "file_ids")])


@BULK_GETS
@pytest.mark.parametrize(
    ("how", "bad"),
    [
        *((how, {"id3"}) for how in ("refused", "undecodable", "left out", "null")),
        *((how, {"id0", "id99", "id120"}) for how in ("refused", "left out", "null")),
    ],
)
def test_only_the_id_that_fails_its_bulk_request_gets_an_error(hook, platform, method, key, how, bad):
    platform.answers = [spoiled(key, bad, how)]
    ids = [f"id{n}" for n in range(130)]
    results = getattr(hook, method)(ids)
    assert [getattr(result, "id", None) for result in results] == [None if each in bad else each for each in ids]
    errors = [result for result in results if isinstance(result, SevenBridgesApiError)]
    assert len(errors) == len(bad)
    assert all(error.permanent is (how == "refused") for error in errors)


@BULK_GETS
def test_items_in_another_order_are_put_in_order(hook, platform, method, key):
    platform.answers = [spoiled(key, set(), "shuffled")]
    ids = [f"id{n}" for n in range(130)]
    assert [result.id for result in getattr(hook, method)(ids)] == ids
    assert len(platform.seen) == 2


@BULK_GETS
def test_an_id_that_is_given_twice_is_requested_once(hook, platform, method, key):
    platform.answers = [spoiled(key, set(), "")]
    assert [result.id for result in getattr(hook, method)(["a", "b", "a"])] == ["a", "b", "a"]
    assert platform.seen[0].json[key] == ["a", "b"]


@BULK_GETS
@pytest.mark.parametrize("count", [1, 2, 100])
@pytest.mark.parametrize(("status", "code"), [(401, 90001), (403, 9005), (400, 90000)])
def test_a_rejection_of_all_ids_is_raised(hook, platform, method, key, count, status, code):
    platform.answers = [reply({"status": status, "code": code}, status)]
    with pytest.raises(SevenBridgesApiError) as caught:
        getattr(hook, method)([f"id{n}" for n in range(count)])
    assert caught.value.code == code
    assert len(platform.seen) <= (1 if status == 401 else 40)


def pages(total, size):
    """A list whose pages hold at most ``size`` items, whatever limit is requested."""

    def answer(handler):
        platform = handler.server.platform
        query = parse_qs(urlsplit(platform.seen[-1].path).query)
        start = int(query["offset"][0])
        end = min(start + min(size, int(query["limit"][0])), total)
        items = [{"id": f"id{n}", "state": "RUNNING"} for n in range(start, end)]
        links = [{"rel": "next", "href": f"{platform.url}/v2/x?offset={end}"}] if end < total else []
        reply({"items": items, "links": links}, X_Total_Matching_Query=str(total))(handler)

    return answer


LISTS = pytest.mark.parametrize(
    "call",
    [
        lambda hook, limit: hook.list_exports("me/out", ["RUNNING"], limit=limit),
        lambda hook, limit: hook.list_files(project="me/p", limit=limit),
        lambda hook, limit: hook.list_volumes(limit=limit),
    ],
    ids=["exports", "files", "volumes"],
)


@LISTS
@pytest.mark.parametrize(
    ("total", "size", "limit", "count", "requests"),
    [
        (0, 100, None, 0, 1),
        (99, 100, None, 99, 1),
        (100, 100, None, 100, 1),
        (101, 100, None, 101, 2),
        (250, 100, None, 250, 3),
        (120, 50, None, 120, 3),
        (250, 100, 0, 0, 0),
        (250, 100, 1, 1, 1),
        (250, 100, 100, 100, 1),
        (250, 100, 101, 101, 2),
        (5, 100, 50, 5, 1),
    ],
)
def test_a_list_is_read_page_by_page(hook, platform, call, total, size, limit, count, requests):
    platform.answers = [pages(total, size)]
    assert [item.id for item in call(hook, limit)] == [f"id{n}" for n in range(count)]
    assert len(platform.seen) == requests


def scripted(*pages):
    """Respond with pages in turn, then repeat the last: ids, total, whether a next page is named."""

    def page(ids, total, goes_on):
        def answer(handler):
            platform = handler.server.platform
            links = [{"rel": "next", "href": f"{platform.url}/v2/x"}] if goes_on else []
            headers = {} if total is None else {"X_Total_Matching_Query": str(total)}
            reply({"items": [{"id": each, "state": "RUNNING"} for each in ids], "links": links}, **headers)(handler)

        return answer

    return [page(*each) for each in pages]


def ids_of(first, end):
    return [f"id{n}" for n in range(first, end)]


@LISTS
@pytest.mark.parametrize(
    ("pages_", "requests", "problem"),
    [
        ([(ids_of(0, 100), 250, False)], 3, "it should have 250 items, but only 100 were listed"),
        ([(ids_of(0, 100), 250, True)], 6, "it should have 250 items, but only 100 were listed"),
        ([(ids_of(0, 100), None, True)], 6, "it should have more items, but only 100 were listed"),
        ([([], 1, False)], 3, "it should have 1 items, but only 0 were listed"),
        ([([], 250, True)], 3, "it should have 250 items, but only 0 were listed"),
        ([(ids_of(0, 100), 101, True), ([], 101, False)], 4, "it should have 101 items, but only 100 were listed"),
    ],
    ids=["no link", "one page again and again", "without total", "empty", "empty with a link", "one is missing"],
)
def test_a_list_that_is_known_to_be_incomplete_raises_an_error(hook, platform, call, pages_, requests, problem):
    platform.answers = scripted(*pages_)
    with pytest.raises(
        SevenBridgesApiError, match=f"^List of .*: The Platform's list is incomplete: {problem}"
    ) as caught:
        call(hook, None)
    assert not caught.value.permanent
    assert len(platform.seen) == requests


@LISTS
@pytest.mark.parametrize(
    ("pages_", "count", "requests"),
    [
        ([(ids_of(0, 100), 250, False), (ids_of(0, 100), 150, True), (ids_of(100, 150), 150, False)], 150, 3),
        # One is deleted, so that another moves to the page that was read before.
        ([(ids_of(0, 100), 102, True), (ids_of(101, 102), 101, False), (ids_of(1, 102), 101, False)], 102, 3),
        # One comes, so that another is seen twice.
        ([(ids_of(0, 100), 101, True), (ids_of(99, 101), 102, False), (ids_of(0, 102), 102, False)], 102, 3),
    ],
    ids=["a link was missing", "shrinks", "grows"],
)
def test_a_list_that_changed_while_it_was_read_is_read_again(hook, platform, call, pages_, count, requests):
    platform.answers = scripted(*pages_)
    assert sorted((item.id for item in call(hook, None)), key=lambda each: int(each[2:])) == ids_of(0, count)
    assert len(platform.seen) == requests


@LISTS
def test_a_list_that_keeps_changing_returns_everything_that_was_read(hook, platform, call):
    platform.answers = scripted(
        *(page for n in range(3) for page in [(ids_of(n, n + 100), 102, True), (ids_of(n + 100, n + 101), 103, False)])
    )
    assert [item.id for item in call(hook, None)] == ids_of(0, 103)
    assert len(platform.seen) == 6


@LISTS
@pytest.mark.parametrize("limit", [None, 10_000])
def test_an_endless_list_is_read_up_to_a_limit(hook, platform, call, limit, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.hooks.sevenbridges.MAX_PAGES", 7)
    platform.answers = [pages(10**6, 100)]
    with pytest.raises(SevenBridgesApiError, match="it has more than 7 pages"):
        call(hook, limit)
    assert len(platform.seen) == 7


def test_a_page_is_requested_only_when_its_first_item_is_needed(hook, platform):
    platform.answers = [pages(1000, 100)]
    files = hook.iterate(lambda offset: calls.list_files(project="me/p", offset=offset))
    assert platform.seen == []
    assert [next(files).id for _ in range(100)] == ids_of(0, 100)
    assert len(platform.seen) == 1
    assert next(files).id == "id100"
    assert len(platform.seen) == 2


def test_each_page_is_requested_with_all_filters(hook, platform):
    platform.answers = [pages(150, 100)]
    hook.list_files(
        project="me/p", names=["a b"], tags=["t"], metadata={"sample": ["1", "2"]}, origin_task="task", limit=None
    )
    first, second = (dict(parse_qsl(urlsplit(seen.path).query)) for seen in platform.seen)
    assert (first.pop("offset"), second.pop("offset")) == ("0", "100")
    assert first == second
    assert first["metadata.sample"] == "2"
    assert first["project"] == "me/p"


def test_a_page_without_items_ends_a_list(hook, platform):
    endless = {"items": [], "links": [{"rel": "next", "href": f"{platform.url}/v2/storage/exports?offset=0"}]}
    platform.answers = [reply(endless)]
    assert hook.list_exports() == []
    assert len(platform.seen) == 1


def objects(total, size=100):
    """Answer the list of a volume with that many objects, in pages of a size."""

    def answer(handler):
        platform = handler.server.platform
        start = int(dict(parse_qsl(urlsplit(platform.seen[-1].path).query)).get("token", 0))
        items = [{"location": f"a/{n}", "metadata": {"size": n}} for n in range(start, min(start + size, total))]
        more = start + size < total
        links = [{"next": f"{platform.url}/v2/storage/volumes/o/v/list?token={start + size}"}] if more else []
        reply({"items": items, "prefixes": [], "links": links})(handler)

    return answer


def test_the_objects_of_a_volume_are_listed_page_by_page(hook, platform):
    platform.answers = [objects(250)]
    found = hook.list_volume_objects("o/v", "a/")
    assert platform.seen == []
    assert next(found) == VolumeObject("a/0", size=0)
    assert len(platform.seen) == 1
    assert [item.size for item in found] == list(range(1, 250))
    requested = [urlsplit(seen.path) for seen in platform.seen]
    assert {each.path for each in requested} == {"/v2/storage/volumes/o/v/list"}
    common = {"fields": "_all", "limit": "100", "prefix": "a/"}
    assert [dict(parse_qsl(each.query)) for each in requested] == [
        common,
        common | {"token": "100"},
        common | {"token": "200"},
    ]


def test_a_page_of_a_volume_may_be_empty(hook, platform):
    """A page may show only folders."""
    link = {"next": f"{platform.url}/v2/storage/volumes/o/v/list?token=x"}
    platform.answers = [reply({"items": [], "links": [link]}), reply({"items": [{"location": "a"}], "links": []})]
    assert [item.location for item in hook.list_volume_objects("o/v")] == ["a"]


def test_pages_of_a_volume_that_repeat_are_an_error(hook, platform):
    link = {"next": f"{platform.url}/v2/storage/volumes/o/v/list?token=x"}
    platform.answers = [reply({"items": [{"location": "a"}], "links": [link]})]
    with pytest.raises(SevenBridgesApiError, match=r"List of objects on volume o/v: .*its pages repeat"):
        list(hook.list_volume_objects("o/v"))
    assert len(platform.seen) == 2


def test_a_volume_without_end_has_a_bound(hook, platform, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.hooks.sevenbridges.MAX_VOLUME_PAGES", 7)
    platform.answers = [objects(10**6)]
    with pytest.raises(SevenBridgesApiError, match="it has more than 7 pages; use a prefix"):
        list(hook.list_volume_objects("o/v"))
    assert len(platform.seen) == 7


def test_a_volume_is_fetched_once(hook, platform):
    platform.answers = [reply({"id": "me/out", "service": {"type": "S3", "bucket": "b", "prefix": "p"}})]
    assert hook.get_volume("me/out") is hook.get_volume("me/out")
    assert len(platform.seen) == 1


@pytest.mark.parametrize(
    ("call", "answer", "value"),
    [
        (lambda hook: hook.get_export("j").state, {"id": "j", "state": "FAILED"}, "FAILED"),
        (lambda hook: hook.get_file("f").size, {"id": "f", "size": "7"}, 7),
        (lambda hook: hook.get_volume_object("a/b", "x"), {"metadata": {"size": 7}}, VolumeObject(size=7)),
        (lambda hook: hook.get_user().username, {"username": "me"}, "me"),
        (lambda hook: hook.get_rate_limit().remaining, {"rate": {"remaining": 3}}, 3),
    ],
)
def test_the_methods_that_fetch_one_resource(hook, platform, call, answer, value):
    platform.answers = [reply(answer)]
    assert call(hook) == value
    assert len(platform.seen) == 1


def test_reconnect_reads_a_replaced_token(hook, platform, connect):
    platform.answers = [reply({"username": "me"})]
    hook.get_user()
    connect(platform.url, password="f" * 32)
    hook.get_user()
    hook.reconnect()
    hook.get_user()
    assert [seen.headers["X-SBG-Auth-Token"][0] for seen in platform.seen] == ["3", "3", "f"]


FILE, VOLUME, LOCATION = "5" * 24, "me/out", "folder/a b.vcf"
METHODS = {
    "start_export": (
        lambda hook: hook.start_export(FILE, VOLUME, LOCATION),
        f"export of file {FILE} to {VOLUME}/{LOCATION}",
    ),
    "start_exports": (
        lambda hook: hook.start_exports([ExportRequest(FILE, VOLUME, LOCATION), *exports(2)]),
        f"export of file {FILE} to {VOLUME}/{LOCATION} and 2 more",
    ),
    "get_export": (lambda hook: hook.get_export("job1"), "export job1"),
    "get_exports": (lambda hook: hook.get_exports(["job1"]), "export job1"),
    "get_exports of many": (lambda hook: hook.get_exports(["job1", "job2", "job3"]), "export job1 and 2 more"),
    "list_exports": (lambda hook: hook.list_exports(), "list of exports"),
    "list_exports of a volume": (lambda hook: hook.list_exports(VOLUME), f"list of exports to volume {VOLUME}"),
    "get_file": (lambda hook: hook.get_file(FILE), f"file {FILE}"),
    "get_files": (lambda hook: hook.get_files([FILE, "x"]), f"file {FILE} and 1 more"),
    "list_files": (lambda hook: hook.list_files(project="me/p"), "list of files of project me/p"),
    "list_files of a folder": (lambda hook: hook.list_files(parent="f1"), "list of files of folder f1"),
    "get_volume": (lambda hook: hook.get_volume(VOLUME), f"volume {VOLUME}"),
    "list_volumes": (lambda hook: hook.list_volumes(), "list of volumes"),
    "get_volume_object": (
        lambda hook: hook.get_volume_object(VOLUME, LOCATION),
        f"object {LOCATION} on volume {VOLUME}",
    ),
    "find_volume_object": (
        lambda hook: hook.find_volume_object(VOLUME, LOCATION),
        f"object {LOCATION} on volume {VOLUME}",
    ),
    "list_volume_objects": (
        lambda hook: list(hook.list_volume_objects(VOLUME)),
        f"list of objects on volume {VOLUME}",
    ),
    "get_user": (lambda hook: hook.get_user(), "user of the token"),
    "get_rate_limit": (lambda hook: hook.get_rate_limit(), "rate limit of the token"),
}
RESPONSES = {
    "refused": reply(REFUSED, 403),
    "gateway": reply(b"<html>Bad gateway</html>", 502),
    "too many requests": reply({}, 429),
    "unreadable": reply(b"<html>Sign in</html>"),
    "redirect": reply(b"", 302, Location="https://login.example/"),
    "dropped": drop,
}


def sentence(name):
    """The name as the beginning of a sentence."""
    return name[:1].upper() + name[1:]


@pytest.mark.parametrize("answer", RESPONSES.values(), ids=RESPONSES)
@pytest.mark.parametrize(("call", "name"), METHODS.values(), ids=METHODS)
def test_every_error_names_the_resource_of_its_call(hook, platform, call, name, answer):
    platform.answers = [answer]
    with pytest.raises(SevenBridgesError) as caught:
        call(hook)
    text = str(caught.value)
    # A bulk request is split to find the unreadable item, so the error may name any part of it.
    is_part = name == "export job1 and 2 more" and re.match(r"Export job[123]( and 1 more)?: ", text)
    assert f"{sentence(name)}: " in text or f" ({name}): " in text or is_part
    assert str(pickle.loads(pickle.dumps(caught.value))) == text


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda hook: hook.get_exports(["j0", "j1"]), ["export j0", "export j1"]),
        (lambda hook: hook.get_files(["f0", "f1"]), ["file f0", "file f1"]),
        (
            lambda hook: hook.start_exports(exports(2)),
            [f"export of file {n:024x} to me/out/{n}.vcf" for n in range(2)],
        ),
    ],
    ids=["get_exports", "get_files", "start_exports"],
)
def test_each_error_in_a_bulk_response_names_its_own_resource(hook, platform, call, names):
    platform.answers = [reply({"items": [{"error": REFUSED}] * 2})]
    errors = call(hook)
    assert [str(error).split(": Requested file")[0] for error in errors] == [sentence(name) for name in names]


def test_the_resource_in_an_error_is_one_short_line(hook, platform):
    platform.answers = [reply(REFUSED, 403)]
    with pytest.raises(SevenBridgesForbiddenError) as caught:
        hook.get_volume_object(VOLUME, "a\r\nb\x1b[31m" + "x" * 2000)
    assert str(caught.value).startswith("Object a b [31mxxx")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700
