"""An object that another file is an alias of holds that file's only bytes: nothing overwrites it, or advises that."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_sb_provider.exceptions import SevenBridgesApiError
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator
from tests.integration.in_process.conftest import paths, use_token

BYTES, THEIRS = b"some bytes", b"the only copy"
VOLUME, LOCATION = "demo/results", "a/b.txt"
SUBMISSIONS = ("/v2/storage/exports", "/v2/bulk/storage/exports/create")
LISTS = ("GET storage/exports", "GET storage/imports")
MOVE, COPY = {}, {"copy_only": True}
MOVE_OVER, COPY_OVER = {"overwrite": True}, {"overwrite": True, "copy_only": True}


@pytest.fixture(params=["single", "bulk"])
def task(request, platform):
    """Create the single or the bulk operator for one file."""

    def make(file=None, volume=VOLUME, location=LOCATION, overwrite_aliased=False, **fields):
        file = file or platform.add_file("new.txt", BYTES).id
        common = {
            "task_id": "export",
            "retries": 2,
            "poll_interval": 0.1,
            "deferrable": False,
            "overwrite_aliased": overwrite_aliased,
        }
        if request.param == "single":
            return SevenBridgesExportOperator(file=file, volume=volume, location=location, **common, **fields)
        wanted = {"file": file, "volume": volume, "location": location, **fields}
        return SevenBridgesBulkExportOperator(exports=[wanted], **common)

    return make


def ended(hook, job):
    while not hook.get_export(job.id).ended:
        pass
    return job


@pytest.fixture
def theirs(platform):
    """Another file of the user's, which was moved to the destination."""
    hook = SevenBridgesHook()
    file = platform.add_file("theirs.txt", THEIRS, project="demo/other")
    job = ended(hook, hook.start_export(file.id, VOLUME, LOCATION))
    return SimpleNamespace(file=file, job=job, posts=len(posts(platform)))


def posts(platform):
    return [record for record in platform.requests if record.method == "POST" and record.path in SUBMISSIONS]


def listed(platform, since=0):
    """How often completed exports and imports were listed."""
    completed = [
        r for r in platform.requests[since:] if r.method == "GET" and "COMPLETED" in r.query.getall("state", [])
    ]
    return [sum(record.path == f"/v2/{path[4:]}" for record in completed) for path in LISTS]


def warning(capsys):
    [line] = [line for line in capsys.readouterr().out.splitlines() if "will be deleted and replaced" in line]
    return line


# What is refused


@pytest.mark.parametrize("intent", [MOVE_OVER, COPY_OVER], ids=str)
@pytest.mark.parametrize("includes_prefix", [False, True])
def test_the_only_copy_of_a_moved_file_is_not_overwritten(platform, runner, task, theirs, intent, includes_prefix):
    platform.knobs.alias_location_includes_prefix = includes_prefix
    with pytest.raises(AirflowFailException) as caught:
        runner.run(task(**intent))
    text = str(caught.value)
    assert f"delete the bytes of file {theirs.file.id} (theirs.txt, project demo/other), an alias" in text
    assert f"export {theirs.job.id}" in text
    assert "Choose another location" in text
    assert "set overwrite" not in text
    assert len(posts(platform)) == theirs.posts
    assert platform.object_bytes(VOLUME, LOCATION) == THEIRS


@pytest.mark.parametrize("intent", [MOVE_OVER, COPY_OVER], ids=str)
@pytest.mark.parametrize("lag", ["alias_lag_seconds", "list_lag_seconds"])
def test_a_file_that_is_shown_late_as_an_alias_is_not_overwritten(platform, runner, task, theirs, intent, lag):
    """A job's result shows the alias immediately; the list of jobs in flight shows a job that has just completed."""
    setattr(platform.knobs, lag, 1000.0)
    if lag == "list_lag_seconds":
        platform.exports[0].started_on = theirs.file.created_on.replace(year=2020)
        platform.exports[0].past_states[0] = (platform.exports[0].started_on, "PENDING")
    with pytest.raises(AirflowException):
        runner.run(task(**intent))
    assert platform.object_bytes(VOLUME, LOCATION) == THEIRS


@pytest.mark.parametrize("intent", [MOVE_OVER, COPY_OVER], ids=str)
def test_an_object_that_was_imported_is_not_overwritten(platform, runner, task, intent):
    platform.put_object(VOLUME, LOCATION, THEIRS)
    alias = platform.platform.files[platform.add_import(VOLUME, LOCATION, name="imported.txt").file]
    with pytest.raises(AirflowFailException, match=rf"file {alias.id} \(imported.txt, project demo/genomics\)"):
        runner.run(task(**intent))
    assert platform.object_bytes(VOLUME, LOCATION) == THEIRS
    assert not platform.exports


def test_an_object_that_was_moved_there_through_another_volume_is_not_overwritten(platform, runner, task):
    platform.add_volume("demo/same-bucket", bucket="demo-results")
    hook, file = SevenBridgesHook(), platform.add_file("theirs.txt", THEIRS).id
    ended(hook, hook.start_export(file, "demo/same-bucket", f"exports/{LOCATION}"))
    with pytest.raises(AirflowFailException, match=f"file {file}"):
        runner.run(task(**MOVE_OVER))
    assert platform.object_bytes(VOLUME, LOCATION) == THEIRS


def test_a_file_of_the_same_task_is_not_lost(platform, runner):
    """The selection holds a file that an earlier run has moved to where another one is to go."""
    hook, file = SevenBridgesHook(), platform.add_file("old.txt", THEIRS).id
    ended(hook, hook.start_export(file, VOLUME, LOCATION))
    platform.knobs.retention_seconds = 0.001
    new = platform.add_file("new.txt", BYTES).id
    wanted = [{"file": each, "volume": VOLUME, "location": f"a/{name}", "overwrite": True} for each, name in
              ((new, "b.txt"), (file, "c.txt"))]  # fmt: skip
    with pytest.raises(AirflowFailException, match=f"bytes of file {file}"):
        runner.run(SevenBridgesBulkExportOperator(task_id="export", exports=wanted, poll_interval=0.1))
    assert platform.object_bytes(VOLUME, LOCATION) == THEIRS


# What is allowed


@pytest.mark.parametrize("intent", [MOVE_OVER, COPY_OVER], ids=str)
@pytest.mark.parametrize("allowed", [True, "true"])
def test_it_is_overwritten_if_a_parameter_says_so_and_the_warning_names_the_file(
    platform, runner, task, theirs, intent, allowed, capsys
):
    assert runner.run(task(overwrite_aliased=allowed, **intent))["state"] == "COMPLETED"
    text = warning(capsys)
    assert f"The bytes of file {theirs.file.id} (theirs.txt, project demo/other), an alias of it, will be lost" in text
    assert theirs.job.id in text
    assert platform.object_bytes(VOLUME, LOCATION) == BYTES
    assert "overwrite_aliased" not in str([record.json for record in posts(platform)])


def test_the_parameter_is_no_part_of_the_export(platform, runner, task, theirs):
    """A retry whose parameter has changed adopts the export of the earlier try."""
    file = platform.add_file("new.txt", BYTES).id
    runner.run(task(file, overwrite_aliased=True, **MOVE_OVER))
    runner.run(task(file, overwrite_aliased=False, **MOVE_OVER))
    assert len(posts(platform)) == theirs.posts + 1


@pytest.mark.parametrize("value", ["perhaps", 3])
def test_the_parameter_is_checked(platform, runner, task, value):
    with pytest.raises(AirflowFailException, match="overwrite_aliased"):
        runner.run(task(overwrite_aliased=value))
    assert not posts(platform)


@pytest.mark.parametrize("intent", [MOVE_OVER, COPY_OVER], ids=str)
def test_a_copy_is_overwritten_and_the_warning_says_what_was_not_checked(platform, runner, task, intent, capsys):
    hook, file = SevenBridgesHook(), platform.add_file("copied.txt", b"a copy").id
    job = ended(hook, hook.start_export(file, VOLUME, LOCATION, copy_only=True))
    assert runner.run(task(**intent))["state"] == "COMPLETED"
    text = warning(capsys)
    assert f"The newest export to it is export {job.id} of file {file} (copied.txt, project demo/genomics)." in text
    assert "Not checked: what other users exported or imported" in text


def test_what_other_users_imported_is_not_visible(platform, runner, task, capsys):
    platform.put_object(VOLUME, LOCATION, THEIRS)
    platform.add_token("somebody")
    platform.add_import(VOLUME, LOCATION, username="somebody")
    assert runner.run(task(**MOVE_OVER))["state"] == "COMPLETED"
    assert "No export to it is known." in warning(capsys)


def test_an_alias_that_was_deleted_is_no_alias(platform, runner, task, theirs, capsys):
    del platform.platform.files[theirs.file.id]
    assert runner.run(task(**MOVE_OVER))["state"] == "COMPLETED"
    assert f"file {theirs.file.id}, which cannot be read" in warning(capsys)


@pytest.mark.parametrize(
    ("path", "said"), [("imports", "your imports from volume demo/results, which cannot be read")], ids=str
)
def test_a_list_that_is_rejected_is_not_known(platform, runner, task, path, said, capsys):
    platform.put_object(VOLUME, LOCATION, THEIRS)
    platform.trouble("error", method="GET", path=f"/v2/storage/{path}", status=403, code=90002, times=0)
    assert runner.run(task(**MOVE_OVER))["state"] == "COMPLETED"
    assert said in warning(capsys)


def test_a_list_that_is_not_complete_is_not_known(platform, runner, task, capsys, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.engine.job_lists.MAX_PAGES", 1)
    monkeypatch.setattr("airflow_sb_provider.api.calls.list_imports.__kwdefaults__", {"offset": 0, "limit": 1})
    platform.put_object(VOLUME, LOCATION, THEIRS)
    for name in ("x", "y"):
        platform.put_object(VOLUME, name, b"x")
        platform.add_import(VOLUME, name)
    assert runner.run(task(**MOVE_OVER))["state"] == "COMPLETED"
    assert "your imports from volume demo/results, of which only 1 were read" in warning(capsys)


@pytest.mark.parametrize("folder", ["a", "a/", "/"])
def test_the_files_of_a_folder_that_was_imported_are_not_known(platform, runner, task, capsys, folder):
    platform.put_object(VOLUME, LOCATION, THEIRS)
    job = platform.add_import(VOLUME, LOCATION)
    job.location, job.file = folder, platform.platform.folder_at("a", "demo/genomics").id
    assert runner.run(task(**MOVE_OVER))["state"] == "COMPLETED"
    assert f"the files made by import {job.id} of demo/results/{folder}" in warning(capsys)


# The advice


@pytest.mark.parametrize("intent", [MOVE, COPY], ids=str)
@pytest.mark.parametrize("in_job", [False, True])
def test_the_error_names_whose_object_is_in_the_way_and_does_not_advise_to_overwrite_it(
    platform, runner, task, theirs, intent, in_job
):
    platform.knobs.refuse_in_job = in_job
    with pytest.raises(AirflowFailException) as caught:
        runner.run(task(**intent))
    text = str(caught.value)
    assert f"made by export {theirs.job.id} of file {theirs.file.id} (theirs.txt, project demo/other)" in text
    assert f"It holds the bytes of file {theirs.file.id}" in text
    assert "Choose another location" in text
    assert "set overwrite" not in text


@pytest.mark.parametrize("intent", [MOVE, COPY], ids=str)
def test_it_advises_to_overwrite_what_no_visible_file_is_an_alias_of(platform, runner, task, intent):
    platform.put_object(VOLUME, LOCATION, THEIRS)
    with pytest.raises(AirflowFailException, match="set overwrite if the object there may be deleted: no file that"):
        runner.run(task(**intent))


@pytest.mark.parametrize("intent", [MOVE, COPY], ids=str)
def test_it_does_not_advise_that_where_it_cannot_know(platform, runner, task, intent):
    platform.put_object(VOLUME, LOCATION, THEIRS)
    platform.trouble("error", method="GET", path="/v2/storage/imports", status=403, code=90002, times=0)
    with pytest.raises(AirflowFailException) as caught:
        runner.run(task(**intent))
    assert "Not checked: your imports from volume demo/results" in str(caught.value)
    assert "set overwrite" not in str(caught.value)


def test_the_hook_advises_to_check_for_aliases_first(platform, theirs):
    with pytest.raises(SevenBridgesApiError, match="first check that no file is an alias of the object") as caught:
        SevenBridgesHook().start_export(platform.add_file("new.txt", BYTES).id, VOLUME, LOCATION)
    assert caught.value.code == 9107


# A dry run


@pytest.mark.parametrize("intent", [MOVE, COPY], ids=str)
def test_a_dry_run_names_whose_object_is_in_the_way(platform, runner, export, theirs, intent):
    with pytest.raises(AirflowFailException) as caught:
        runner.run(export(validate_only=True, **intent))
    text = str(caught.value)
    assert theirs.job.id in text
    assert f"It holds the bytes of file {theirs.file.id}" in text
    assert "set overwrite" not in text


@pytest.mark.parametrize("intent", [MOVE_OVER, COPY_OVER], ids=str)
def test_a_dry_run_fails_where_the_export_would(platform, runner, export, theirs, intent, capsys):
    with pytest.raises(AirflowFailException, match=f"delete the bytes of file {theirs.file.id}"):
        runner.run(export(validate_only=True, **intent))
    result = runner.run(export(validate_only=True, overwrite_aliased=True, **intent))
    assert result["replaces"]["aliases"] == [theirs.file.id]
    assert result["replaces"]["export_id"] == theirs.job.id
    assert "would delete the object there" in capsys.readouterr().out


def test_a_dry_run_of_a_file_that_is_there_already_does_not_advise_to_overwrite_it(platform, runner, export, theirs):
    with pytest.raises(AirflowFailException) as caught:
        runner.run(export(file=theirs.file.id, validate_only=True))
    assert "set overwrite" not in str(caught.value)


# What it costs


@pytest.mark.parametrize("intent", [MOVE, COPY, MOVE_OVER, COPY_OVER], ids=str)
def test_nothing_more_is_listed_where_no_object_is_there(platform, runner, task, intent):
    runner.run(task(**intent))
    assert listed(platform) == [0, 0]
    assert "GET storage/imports" not in paths(platform)


def test_a_check_of_many_lists_exports_and_imports_once(platform, runner):
    wanted = []
    for number in range(5):
        platform.put_object(VOLUME, f"{number}", b"old")
        file = platform.add_file(f"{number}", BYTES).id
        wanted.append({"file": file, "volume": VOLUME, "location": f"{number}", "overwrite": True})
    runner.run(SevenBridgesBulkExportOperator(task_id="export", exports=wanted, poll_interval=0.1))
    assert listed(platform) == [1, 1]


def test_another_user_may_list_nothing(platform, monkeypatch, task, runner):
    """The list of imports is the token user's own."""
    platform.put_object(VOLUME, LOCATION, THEIRS)
    platform.add_import(VOLUME, LOCATION)
    use_token(monkeypatch, platform, platform.add_token("somebody"))
    assert runner.run(task(**COPY_OVER))["state"] == "COMPLETED"
