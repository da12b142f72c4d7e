"""Results of the hook can be stored in XCom and restored, also in a process that has only Airflow and its plugins."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_sb_provider import exceptions
from airflow_sb_provider.api.models import (
    ExportJob,
    File,
    Page,
    RateLimit,
    User,
    Volume,
    VolumeObject,
    error_from_json,
)
from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesRateLimitError
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.xcoms import serde

assert SevenBridgesHook, "which a DAG imports that calls it"

ROOT = Path(__file__).parents[2]
FILE = {
    "id": "567890abc9b0307bc0414164",
    "name": "{{ 7*191 }}.vcf",
    "size": 7,
    "project": "rfranklin/my-project",
    "storage": {"type": "VOLUME", "volume": "rfranklin/output", "location": "output.vcf"},
    "tags": ["a", "b"],
    "metadata": {"sample_id": "S1", "many": ["x", "y"]},
    "_secondary_files": [{"id": "567890abc9b0307bc0414165"}],
}
JOB = {
    "id": "erand0md6gMeuLlhWTNVj192RsnOMgdB",
    "state": "FAILED",
    "source": {"file": FILE["id"]},
    "destination": {"volume": "rfranklin/output", "location": "output.vcf"},
    "overwrite": False,
    "properties": {"sse_algorithm": None},
    "started_on": "2016-06-15T19:17:39Z",
    "finished_on": "2016-06-15T21:17:39.123456+02:00",
    "result": FILE,
    "error": {"status": 409, "code": 9107, "message": "taken", "more_info": "https://docs"},
}
RESULTS = [
    ExportJob("a", "PENDING"),
    File.from_json(FILE),
    Volume.from_json(
        {"id": "a/b", "name": "b", "access_mode": "RW", "active": True, "service": {"type": "s3", "bucket": "c"}}
    ),
    VolumeObject("output.vcf", "a/b", 7, "etag", "md5", "crc32c"),
    User("demo"),
    RateLimit(1000, 999, 1700000000),
    Page([File("a"), File("b")], 2, "https://next"),
    Page([], None, None),
    None,
]


def through_xcom(value):
    return serde.deserialize(json.loads(json.dumps(serde.serialize(value))))


@pytest.mark.parametrize("result", RESULTS, ids=repr)
def test_a_result_is_restored_from_xcom(result):
    assert through_xcom(result) == result
    assert through_xcom([result, result]) == [result, result]
    assert through_xcom({"found": [result]}) == {"found": [result]}


def fields_of(error):
    return type(error), vars(error), error.args, str(error)


def test_a_job_with_its_error():
    job = ExportJob.from_json(JOB)
    back = through_xcom(job)
    assert fields_of(back.error) == fields_of(job.error)
    assert (back.started_on, back.finished_on) == (job.started_on, job.finished_on)
    assert (back.result, back.properties, back.to_json()) == (job.result, job.properties, job.to_json())


@pytest.mark.parametrize("status", [0, 302, 400, 401, 403, 404, 409, 429, 500, 503])
def test_an_error_in_a_list(status):
    error = error_from_json({"code": 0, "message": "why", "more_info": "https://docs"}, status, "request-1")
    file = File("a")
    back = through_xcom([file, error])
    assert back[0] == file
    assert fields_of(back[1]) == fields_of(error)


def test_every_error_of_the_api():
    kinds = [each for each in vars(exceptions).values() if isinstance(each, type)]
    for kind in kinds:
        if issubclass(kind, SevenBridgesApiError):
            assert fields_of(through_xcom(kind(404, 5002, "gone"))) == fields_of(kind(404, 5002, "gone"))


def test_the_reset_time_of_a_rate_limit_error_is_restored():
    error = SevenBridgesRateLimitError(429)
    error.reset_at = 1700000000.5
    assert through_xcom(error).reset_at == 1700000000.5


def test_a_result_is_restored_in_a_process_that_has_only_the_plugins():
    """The task that reads the XCom may be another DAG's, which imports nothing of the provider."""
    value = json.dumps(serde.serialize([ExportJob.from_json(JOB), SevenBridgesApiError(404)]))
    code = f"""if True:
        import json, sys
        try:
            from airflow.sdk.plugins_manager import integrate_macros_plugins
        except ImportError:
            from airflow.plugins_manager import integrate_macros_plugins
        # As every worker does before it renders a task's fields.
        integrate_macros_plugins()
        try:
            from airflow.sdk.serde import deserialize
        except ImportError:
            from airflow.serialization.serde import deserialize
        job, error = deserialize(json.loads({value!r}))
        print(job.error.code, error.status)
    """
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert found.stdout.splitlines()[-1] == "9107 404"


MARKS = [
    {"__type": "airflow.sdk.definitions.asset.Asset", "__var": {"name": "a", "uri": "s3://b"}},
    {"__type": "os.system", "__var": "true"},
    {"__type": "dict", "__var": {"other": "thing"}},
    {"__classname__": "airflow.sdk.definitions.asset.Asset", "__version__": 1, "__data__": {"name": "a"}},
    {"__classname__": "x"},
    {"__id__": "x"},
]


@pytest.mark.parametrize("mark", MARKS, ids=repr)
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"deeper": [x, {"still": x}]}], ids=["there", "deeper"])
def test_metadata_with_airflows_type_keys_is_not_deserialized(mark, wrap):
    """A project's members choose the metadata."""
    file = {**FILE, "metadata": {"sample_id": "S1", **wrap(mark)}}
    for found in (File.from_json(file), ExportJob.from_json({**JOB, "result": file, "properties": wrap(mark)})):
        back = through_xcom(found)
        metadata = back.metadata if isinstance(back, File) else back.result["metadata"]
        assert metadata["sample_id"] == "S1"
        assert not any(key.startswith("__") for key in metadata)
        assert "Asset" not in repr(back)
