from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sb_provider.api.models import (
    ExportJob,
    File,
    ImportJob,
    RateLimit,
    User,
    Volume,
    VolumeObject,
    error_from_json,
)
from airflow_sb_provider.api.times import parse_time
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesAuthError,
    SevenBridgesConflictError,
    SevenBridgesForbiddenError,
    SevenBridgesMaintenanceError,
    SevenBridgesNotFoundError,
    SevenBridgesRateLimitError,
    SevenBridgesServerError,
)

FAILED = {
    "href": "https://api.sbgenomics.com/v2/storage/exports/j1",
    "id": "j1",
    "state": "FAILED",
    "source": {"file": "567890abc9b0307bc0414164"},
    "destination": {"volume": "rfranklin/output", "location": "output.vcf"},
    "started_on": "2016-06-15T19:17:39Z",
    "finished_on": "2016-06-15T21:17:40+02:00",
    "properties": {"sse_algorithm": "AES256"},
    "overwrite": False,
    "error": {
        "status": 404,
        "code": 9105,
        "message": "Location on volume not found.",
        "more_info": "http://docs.sevenbridges.com/docs/api-status-codes#9105",
    },
}


def test_a_failed_job_holds_the_platforms_own_error():
    job = ExportJob.from_json(FAILED)
    assert job.ended
    assert (job.file, job.volume, job.location) == ("567890abc9b0307bc0414164", "rfranklin/output", "output.vcf")
    assert job.properties == {"sse_algorithm": "AES256"}
    assert job.overwrite is False
    assert job.finished_on - job.started_on == timedelta(seconds=1)
    assert isinstance(job.error, SevenBridgesNotFoundError)
    assert (job.error.status, job.error.code, job.error.message) == (404, 9105, "Location on volume not found.")
    assert job.error.more_info.endswith("#9105")


def test_a_job_is_restored_from_its_event():
    job = ExportJob.from_json(FAILED)
    again = ExportJob.from_json(json.loads(json.dumps(job.to_json())))
    assert (again.id, again.state, again.file, again.started_on) == (job.id, job.state, job.file, job.started_on)
    assert str(again.error) == str(job.error)
    done = ExportJob("j", "COMPLETED", result={"id": "x"})
    assert ExportJob.from_json(done.to_json()).result == {"id": "x"}
    assert "result" not in done.to_json(with_result=False)


@pytest.mark.parametrize(
    ("state", "ended"),
    [("PENDING", False), ("running", False), ("Completed", True), ("FAILED", True), ("ABORTED", False)],
)
def test_states_are_not_case_sensitive(state, ended):
    job = ExportJob.from_json({"id": "j", "state": state})
    assert job.state == state.upper()
    assert job.ended is ended


ERROR = {"status": 409, "code": 5034, "message": "The volume was deactivated."}


@pytest.mark.parametrize("state", ["ABORTED", "Canceled", " canceled ", "ERROR", "SUCCEEDED", "SOMETHING NEW"])
@pytest.mark.parametrize(
    "how", [{"finished_on": "2026-01-01T00:00:00Z"}, {"error": ERROR}, {"finished_on": "2026-01-01", "error": ERROR}]
)
def test_a_state_that_is_not_documented_is_terminal_and_failed_once_the_job_has_finished(state, how):
    job = ExportJob.from_json({"id": "j", "state": state, **how})
    assert job.state == state.strip().upper()
    assert (job.ended, job.failed, job.succeeded) == (True, True, False)
    again = ExportJob.from_json(json.loads(json.dumps(job.to_json())))
    assert (again.state, again.failed, str(again.error)) == (job.state, True, str(job.error))


@pytest.mark.parametrize("state", ["QUEUED", "ABORTING", "SOMETHING NEW"])
@pytest.mark.parametrize("how", [{}, {"finished_on": None, "error": None}, {"finished_on": "", "error": {}}])
def test_a_state_that_is_not_documented_is_in_flight_until_the_job_has_finished(state, how):
    job = ExportJob.from_json({"id": "j", "state": state, "started_on": "2026-01-01T00:00:00Z", **how})
    assert (job.ended, job.failed, job.succeeded) == (False, False, False)


@pytest.mark.parametrize(
    ("state", "ended", "succeeded"),
    [
        ("COMPLETED", True, True),
        (" completed\n", True, True),
        ("FAILED", True, False),
        ("Failed", True, False),
        ("PENDING", False, False),
        ("running", False, False),
    ],
)
@pytest.mark.parametrize("finished_on", [None, "2026-01-01T00:00:00Z"])
def test_a_documented_state_decides_alone_whether_the_job_is_terminal(state, ended, succeeded, finished_on):
    job = ExportJob.from_json({"id": "j", "state": state, "finished_on": finished_on})
    assert (job.ended, job.succeeded, job.failed) == (ended, succeeded, ended and not succeeded)


@pytest.mark.parametrize("state", [None, "", 5, [], " \n"])
def test_a_job_without_a_state_has_failed_if_it_has_an_error_and_is_invalid_otherwise(state):
    data = {"id": "j", "state": state, "finished_on": "2026-01-01T00:00:00Z"}
    job = ExportJob.from_json({**data, "error": ERROR})
    assert (job.state, job.ended, job.succeeded, job.error.code) == ("UNKNOWN", True, False, 5034)
    with pytest.raises(ValueError, match="'state' is missing"):
        ExportJob.from_json(data)


def test_the_error_of_a_job_may_be_plain_text():
    job = ExportJob.from_json({"id": "j", "state": "ABORTED", "error": "Stopped\nby the owner."})
    assert (job.failed, job.error.message, job.error.permanent) == (True, "Stopped by the owner.", False)


FORGED = [
    "x\n2026-01-01 00:00:00 INFO Export done",
    "x\r2026",
    "\x1b[2Jx",
    "\x9b2Jx",
    "x\u202egpj.exe",
    "x\u2028y",
    "x\u2029y",
    "x\u0085y",
    "x\u200by",
    "x" * 10_000,
]


@pytest.mark.parametrize("forged", FORGED)
def test_texts_that_are_only_displayed_are_sanitized(forged):
    job = ExportJob.from_json({"id": "j", "state": forged, "error": {"message": forged, "more_info": forged}})
    found = VolumeObject.from_json({"metadata": {"etag": forged, "size": 1}})
    user = User.from_json({"username": forged})
    volume = Volume.from_json({"id": "v", "access_mode": forged, "service": {"type": forged}})
    shown = [job.state, job.error.message, job.error.more_info, str(found), user.username]
    for text in (*shown, volume.access_mode, volume.service):
        assert text.isprintable()
        assert 0 < len(text) <= 1000


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("build", [File.from_json, ExportJob.from_json])
def test_an_id_with_control_characters_is_rejected(build, forged):
    with pytest.raises(ValueError, match="'id' is not an id") as caught:
        build({"id": forged, "state": "RUNNING"})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("forged", FORGED)
def test_names_and_locations_are_kept_unchanged(forged):
    file = File.from_json({"id": "f", "name": forged, "storage": {"type": "VOLUME", "volume": "v", "location": forged}})
    assert (file.name, file.location) == (forged, forged)
    assert ExportJob.from_json({"id": "j", "state": "RUNNING", "destination": {"location": forged}}).location == forged


@pytest.mark.parametrize("odd", [None, "", 5, [], "text", float("nan"), True, {"file": 7, "volume": [], "x": None}])
@pytest.mark.parametrize("field", ["source", "destination", "properties", "result", "error", "started_on", "overwrite"])
def test_invalid_optional_fields_count_as_missing(field, odd):
    job = ExportJob.from_json({"id": "j", "state": "PENDING", field: odd})
    assert (job.id, job.file, job.volume, job.started_on) == ("j", None, None, None)


@pytest.mark.parametrize(
    ("build", "good", "needed"),
    [
        (ExportJob.from_json, {"id": "j", "state": "PENDING"}, ("id", "state")),
        (File.from_json, {"id": "f"}, ("id",)),
        (Volume.from_json, {"id": "v"}, ("id",)),
        (User.from_json, {"username": "u"}, ("username",)),
    ],
)
@pytest.mark.parametrize("odd", [None, "", 5, [], {}, True, float("nan")])
def test_a_missing_required_field_is_named(build, good, needed, odd):
    for name in needed:
        for data in ({**good, name: odd}, {key: value for key, value in good.items() if key != name}):
            with pytest.raises(ValueError, match=f"'{name}' is missing"):
                build(data)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2016-06-15T19:17:39Z", datetime(2016, 6, 15, 19, 17, 39, tzinfo=UTC)),
        ("2016-06-15T19:17:39.5Z", datetime(2016, 6, 15, 19, 17, 39, 500000, tzinfo=UTC)),
        ("2016-06-15T19:17:39.123456789Z", datetime(2016, 6, 15, 19, 17, 39, 123456, tzinfo=UTC)),
        ("2016-06-15T19:17:39", datetime(2016, 6, 15, 19, 17, 39, tzinfo=UTC)),
        (" 2016-06-15 19:17:39 ", datetime(2016, 6, 15, 19, 17, 39, tzinfo=UTC)),
        ("2016-06-15T19:17:39+02:00", datetime(2016, 6, 15, 19, 17, 39, tzinfo=timezone(timedelta(hours=2)))),
        ("2016-06-15T19:17:39-0430", datetime(2016, 6, 15, 19, 17, 39, tzinfo=timezone(-timedelta(hours=4.5)))),
    ],
)
def test_times_have_a_time_zone(text, time):
    assert parse_time(text) == time
    assert parse_time(text).tzinfo is not None


@pytest.mark.parametrize("text", ["0002-01-01T00:00:00Z", "9998-12-31T23:59:59.999999Z", "9998-12-31T23:59:59.9-23:59"])
def test_every_time_allows_arithmetic_and_time_zones(text):
    """Adding a timeout or converting the time zone does not overflow."""
    time = parse_time(text)
    for zone in (-23, 0, 23):
        assert time.astimezone(timezone(timedelta(hours=zone))) == time
    for seconds in (-86400, 0, 86400):
        assert datetime.fromtimestamp(time.timestamp() + seconds, UTC)


@pytest.mark.parametrize(
    "garbage",
    [
        *("", "soon", "2016-13-01T00:00:00Z", "1465989459", 1465989459, None, [], "\x00"),
        *("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"),
        *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "9999-01-01T00:00:00+05:00"),
    ],
)
def test_an_invalid_time_is_none(garbage):
    assert parse_time(garbage) is None


@pytest.mark.parametrize(
    ("size", "number"),
    [(5, 5), ("5", 5), (" 5 ", 5), (0, 0), (2**63 - 1, 2**63 - 1), ("9223372036854775807", 2**63 - 1)]
    + [
        (odd, None)
        for odd in (
            2**63,
            -(10**4000),
            "9223372036854775808",
            None,
            "",
            "5 MB",
            "-",
            [],
            {},
            True,
            False,
            float("nan"),
            float("inf"),
            "9" * 5000,
        )
    ]
    + [("²", None), ("٣", None)],
)
def test_sizes_are_numbers_or_text(size, number):
    assert File.from_json({"id": "f", "size": size}).size == number
    assert VolumeObject.from_json({"metadata": {"size": size}}).size == number


@pytest.mark.parametrize("kind", ["S3", "s3", "GCS", "gcs"])
def test_services_are_not_case_sensitive(kind):
    volume = Volume.from_json({"id": "a/b", "service": {"type": kind, "bucket": "b", "prefix": "p"}})
    assert (volume.service, volume.bucket, volume.prefix) == (kind.lower(), "b", "p")


@pytest.mark.parametrize(
    ("active", "known"), [(True, True), (False, False), ("true", None), (1, None), (0, None), (None, None)]
)
def test_active_is_known_only_from_a_boolean(active, known):
    assert Volume.from_json({"id": "a/b", "active": active}).active is known


def test_a_volume_of_azure_has_a_container():
    assert Volume.from_json({"id": "a/b", "service": {"type": "azure", "container": "c"}}).bucket == "c"


@pytest.mark.parametrize("storage", ["VOLUME", "volume"])
def test_an_alias_names_its_object(storage):
    file = File.from_json({"id": "f", "type": "FILE", "storage": {"type": storage, "volume": "a/b", "location": "x"}})
    assert file.is_alias
    assert (file.type, file.volume, file.location) == ("file", "a/b", "x")


def test_a_file_stored_by_the_platform_is_not_an_alias():
    file = File.from_json({"id": "f", "storage": {"type": "PLATFORM", "hosted_on_locations": ["aws:us-east-1"]}})
    assert not file.is_alias
    assert not File.from_json({"id": "f", "storage": None}).is_alias


def test_the_fields_that_a_file_is_selected_by():
    file = File.from_json(
        {
            "id": "f",
            "parent": "folder",
            "origin": {"task": "t"},
            "tags": ["final", 7, None],
            "metadata": {"sample_id": "s", "n": 3},
            "_secondary_files": [{"id": "i", "name": "a.bai"}, {"id": None}, "x", None],
        }
    )
    assert (file.parent, file.origin_task, file.tags, file.secondary_files) == ("folder", "t", ("final",), ("i",))
    assert file.metadata == {"sample_id": "s", "n": 3}
    assert not file.is_folder
    assert File.from_json({"id": "f", "type": "FOLDER"}).is_folder
    assert {file: 1}[file] == 1


@pytest.mark.parametrize("odd", [None, "", 5, [], {}, True, "text", float("nan")])
@pytest.mark.parametrize("field", ["parent", "origin", "tags", "metadata", "_secondary_files"])
def test_invalid_fields_that_a_file_is_selected_by_count_as_missing(field, odd):
    file = File.from_json({"id": "f", field: odd})
    assert (file.origin_task, file.tags, file.metadata, file.secondary_files) == (None, (), {}, ())


def test_an_etag_is_without_its_quotes():
    found = VolumeObject.from_json({"location": "x", "metadata": {"etag": '"abc-2"', "size": "7"}})
    assert (found.etag, str(found)) == ("abc-2", "7 bytes, etag abc-2")
    assert str(VolumeObject.from_json({"metadata": None})) == "unknown size, etag unknown"


@pytest.mark.parametrize(
    ("metadata", "checksums"),
    [
        ({"md5Hash": "1B2M2Y8AsgTpgAmY7PhCfg==", "crc32c": "AAAAAA=="}, ("1B2M2Y8AsgTpgAmY7PhCfg==", "AAAAAA==")),
        ({"md5Hash": "", "crc32c": None}, (None, None)),
        ({"md5Hash": 5, "crc32c": ["x"]}, (None, None)),
        ({"md5Hash": "a\nb", "crc32c": "c" * 5000}, ("a b", "c" * 300)),
        ({}, (None, None)),
    ],
)
def test_the_checksums_of_an_object(metadata, checksums):
    found = VolumeObject.from_json({"metadata": metadata})
    assert (found.md5, found.crc32c) == checksums


def test_the_rate_limit_from_headers_and_body():
    headers = {"X-RateLimit-Limit": "1000", "X-RateLimit-Remaining": "none", "X-RateLimit-Reset": "1489700093"}
    assert RateLimit.from_headers(headers) == RateLimit(1000, None, 1489700093)
    assert RateLimit.from_headers({}) == RateLimit()
    body = {"rate": {"limit": 1000, "remaining": 5, "reset": "1489700093"}, "instance_limit": {"remaining": 2**63 - 1}}
    assert RateLimit.from_json(body) == RateLimit(1000, 5, 1489700093)


@pytest.mark.parametrize(
    ("data", "status", "kind", "number", "code"),
    [
        ({"status": 401, "code": 90001}, 401, SevenBridgesAuthError, 401, 90001),
        ({"status": "403", "code": "9006"}, None, SevenBridgesForbiddenError, 403, 9006),
        ({"status": "NOT_FOUND", "message": "HTTP 404 Not Found"}, 404, SevenBridgesNotFoundError, 404, None),
        ({"status": "NOT_FOUND", "message": "HTTP 404 Not Found"}, None, SevenBridgesApiError, 0, None),
        ({"status": 404, "code": 9105}, None, SevenBridgesNotFoundError, 404, 9105),
        ({"code": 9107}, 409, SevenBridgesConflictError, 409, 9107),
        ({"code": 1000}, 429, SevenBridgesRateLimitError, 429, 1000),
        ({"code": 0}, 503, SevenBridgesMaintenanceError, 503, 0),
        ({"code": "0"}, 503, SevenBridgesMaintenanceError, 503, 0),
        ({"code": False}, 503, SevenBridgesServerError, 503, None),
        ({"code": None}, 503, SevenBridgesServerError, 503, None),
        ({"code": 0}, 500, SevenBridgesServerError, 500, 0),
        ({"code": 9100}, 503, SevenBridgesServerError, 503, 9100),
        ({"status": 200, "code": 90004}, 502, SevenBridgesServerError, 502, 90004),
        ({"code": float("nan"), "status": float("nan")}, None, SevenBridgesApiError, 0, None),
        ({"code": [], "message": 5, "more_info": {}}, 418, SevenBridgesApiError, 418, None),
        ({}, 400, SevenBridgesApiError, 400, None),
    ],
)
def test_errors_are_classified_by_status_and_code(data, status, kind, number, code):
    error = error_from_json(data, status, "request-1")
    assert type(error) is kind
    assert (error.status, error.code, error.request_id) == (number, code, "request-1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "type", "file", "status", "code", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = [
    *("id", "state", "source", "destination", "overwrite", "properties", "started_on", "finished_on"),
    *("result", "error", "name", "size", "project", "type", "storage", "service", "metadata", "username"),
    *("rate", "active", "access_mode"),
]
BUILDERS = [build.from_json for build in (ExportJob, File, Volume, VolumeObject, User, RateLimit)]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8))
def test_any_json_object_is_a_model_or_a_value_error(data):
    for build in BUILDERS:
        try:
            value = build(data)
        except ValueError:
            continue
        str(value), repr(value)
        if isinstance(value, ExportJob):
            json.dumps(value.to_json())


@given(st.dictionaries(st.sampled_from(["status", "code", "message", "more_info"]), JSON), st.integers(100, 700))
def test_any_json_object_is_an_error(data, status):
    for error in (error_from_json(data, status), error_from_json(data)):
        assert isinstance(error, SevenBridgesApiError)
        assert str(error)
        assert isinstance(error.permanent, bool)


@given(JSON | st.text())
def test_any_value_is_a_time_or_none(value):
    time = parse_time(value)
    assert time is None or time.tzinfo is not None


@pytest.mark.parametrize("mark", ["\n", "\r", "\u2028", "\x1b[2J", "\u202e"])
def test_an_etag_cannot_add_a_line_to_the_text_of_an_object(mark):
    shown = str(VolumeObject.from_json({"metadata": {"size": 3, "etag": f"e1{mark}2026-01-01 INFO done" + "x" * 5000}}))
    assert mark not in shown
    assert len(shown) < 300


def test_an_import():
    result = {"id": "f1", "name": "a.txt", "storage": {"type": "VOLUME", "volume": "me/in", "location": "a.txt"}}
    data = {"id": "i1", "state": "completed", "source": {"volume": "me/in", "location": "a.txt"}, "result": result}
    job = ImportJob.from_json(data)
    assert (job.id, job.state, job.volume, job.location) == ("i1", "COMPLETED", "me/in", "a.txt")
    assert job.imported_file is not None
    assert (job.imported_file.id, job.imported_file.is_alias) == ("f1", True)
    assert ImportJob.from_json({"id": "i1"}) == ImportJob("i1", "UNKNOWN")
    with pytest.raises(ValueError, match="id"):
        ImportJob.from_json({"state": "COMPLETED"})


@pytest.mark.parametrize("result", [None, {}, {"name": "a"}, {"id": 7}, {"id": "a\nb"}])
def test_a_result_without_a_readable_id_is_no_file(result):
    assert ImportJob("i1", "COMPLETED", result=result).imported_file is None
    assert ExportJob("j1", "COMPLETED", result=result).exported_file is None
