"""Every example DAG, unchanged, with `dag.test()` on the local Platform."""

from __future__ import annotations

import pytest

from tests.integration.dags.conftest import ROOT, example, xcom

EXAMPLES = sorted(path.stem for path in (ROOT / "example_dags").glob("*.py"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs_unchanged(run, name):
    """In a run that a person starts without a date; such a run has no `ds`."""
    assert str(run(example(name), logical_date=None).state) == "success"


@pytest.mark.parametrize("name", EXAMPLES)
def test_parsing_the_example_sends_no_request(name, monkeypatch):
    """The dag-processor runs the top level of a DAG file repeatedly."""

    def forbidden(*args, **kwargs):
        raise AssertionError(f"while the file is parsed: {args}")

    monkeypatch.setattr("socket.socket.connect", forbidden)
    monkeypatch.setattr("time.sleep", forbidden)
    monkeypatch.setattr("airflow.sdk.BaseHook.get_connection", forbidden)
    monkeypatch.setattr("airflow.sdk.Variable.get", forbidden)
    assert example(name).dag_id == name


def test_the_downstream_task_reads_the_exported_object(run, platform):
    dag_run = run(example("sevenbridges_export"))
    assert xcom(dag_run, "read_object").startswith("##fileformat=VCFv4.2")
    result = xcom(dag_run, "export")
    assert result["uri"] == "s3://demo-results/exports/first-export/sample.vcf"
    assert xcom(dag_run, "export", "export_id") == result["export_id"] == platform.exports[0].id


def test_the_form_overrides_the_defaults(run, platform):
    conf = {"copy_only": False, "overwrite": True, "sse_algorithm": "none", "location": "moved.vcf"}
    dag_run = run(example("sevenbridges_export"), run_conf=conf)
    assert str(dag_run.state) == "success"
    [job] = platform.exports
    assert (job.copy_only, job.location, job.properties["sse_algorithm"]) == (False, "moved.vcf", None)
    assert platform.platform.files[job.file].alias == ("demo/results", "moved.vcf")


@pytest.mark.parametrize(
    ("form", "properties"),
    [
        ({}, {}),
        ({"sse_algorithm": "AES256", "sse_aws_kms_key_id": ""}, {"sse_algorithm": "AES256"}),
        ({"sse_algorithm": "aws:kms"}, {"sse_algorithm": "aws:kms"}),
        ({"sse_algorithm": "aws:kms", "sse_aws_kms_key_id": "k-1"}, None),
    ],
)
def test_the_form_gives_only_the_properties_that_are_filled_in(run, platform, form, properties):
    assert str(run(example("sevenbridges_export"), run_conf=form).state) == "success"
    [sent] = [record.json for record in platform.requests if record.path == "/v2/storage/exports" and record.json]
    assert (sent.get("properties") or {}) == (form if properties is None else properties)


def test_the_form_with_a_key_that_needs_another_encryption_exports_nothing(run, platform, capfd):
    dag_run = run(example("sevenbridges_export"), run_conf={"sse_aws_kms_key_id": "k-1"})
    assert str(dag_run.state) == "failed"
    assert not platform.exports
    assert "set sse_algorithm to 'aws:kms' or leave the key out" in capfd.readouterr().out


def test_the_sensor_of_two_steps_returns_the_result(run, platform):
    dag_run = run(example("sevenbridges_export_two_steps"))
    result = xcom(dag_run, "wait")
    assert result["state"] == "COMPLETED"
    assert result["export_id"] == xcom(dag_run, "start", "export_id") == platform.exports[0].id


def test_two_steps_for_a_move_that_already_completed(run, platform):
    dag = example("sevenbridges_export_two_steps")
    dag.get_task("start").copy_only = False
    assert str(run(dag).state) == "success"
    again = example("sevenbridges_export_two_steps")
    again.get_task("start").copy_only = False
    dag_run = run(again)
    assert str(dag_run.state) == "success"
    assert xcom(dag_run, "start")["adopted"] is True
    assert len(platform.exports) == 1


def test_the_dry_run_changes_nothing_and_fails_with_a_message(run, platform, capfd):
    assert str(run(example("sevenbridges_dry_run")).state) == "success"
    dag_run = run(example("sevenbridges_dry_run"), run_conf={"volume": "demo/readonly"})
    assert str(dag_run.state) == "failed"
    assert not platform.exports
    assert "access mode RO" in capfd.readouterr().out


def test_mapped_exports(run, platform):
    from datetime import datetime

    from airflow.sdk import DAG

    from airflow_sb_provider.operators.export import SevenBridgesExportOperator

    files = [platform.add_file(f"{number}.txt", b"x").id for number in range(5)]
    with DAG("mapped", start_date=datetime(2026, 1, 1), schedule=None) as dag:
        SevenBridgesExportOperator.partial(task_id="export", volume="demo/results", deferrable=True).expand_kwargs(
            [{"file": file, "location": f"mapped/{file}"} for file in files]
        )
    assert str(run(dag).state) == "success"
    assert sorted(job.file for job in platform.exports) == sorted(files)


def test_the_nightly_example_exports_each_file_once_and_skips_a_night_without_new_files(run, platform):
    for expected in ("success", "skipped", "skipped"):
        dag_run = run(example("sevenbridges_nightly_export"))
        assert str(dag_run.get_task_instance("export").state) == expected
        assert len(platform.exports) == 4
    new = platform.add_file("new.vcf", b"x").id
    dag_run = run(example("sevenbridges_nightly_export"))
    summary = xcom(dag_run, "export")
    assert (summary["exported_now"], summary["exported_before"], summary["skipped"]) == (1, 4, 1)
    assert platform.exports[-1].file == new


def test_the_mail_of_the_nightly_example_escapes_what_others_write(run, platform, monkeypatch):
    sent = []
    monkeypatch.setattr(
        "airflow.providers.smtp.hooks.smtp.SmtpHook.send_email_smtp", lambda self, **fields: sent.append(fields)
    )
    monkeypatch.setattr("airflow.providers.smtp.hooks.smtp.SmtpHook.get_conn", lambda self: self)
    name = "<b>{{ conn.sevenbridges_default.password }}.vcf"
    platform.add_file(name, b"x")
    platform.trouble("job_fails", path="/v2/bulk/storage/exports/create", times=5, code=9101)
    dag = example("sevenbridges_nightly_export")
    dag.get_task("export").retries = 0
    assert str(run(dag).state) == "failed"
    [mail] = sent
    assert mail["subject"] == "Some files of demo/genomics were not exported"
    assert "<p>0 files were exported, 5 were not.</p>" in mail["html_content"]
    assert "&lt;b&gt;{{ conn.sevenbridges_default.password }}.vcf (FAILED, code 9101)" in mail["html_content"]
