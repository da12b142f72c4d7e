from __future__ import annotations

import io
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from airflow_sb_provider.emulator import Emulator
from airflow_sb_provider.emulator.seed import VCF
from tests.unit.emulator.conftest import Caller, eventually

ROOT = Path(__file__).parents[3]


def local(emulator: Emulator, path: str) -> str:
    return emulator.url.replace("/v2", f"/_local/{path}")


def test_state_and_requests_for_other_processes(emulator, caller):
    job = caller.ended(caller.export())
    state = requests.get(local(emulator, "state")).json()
    assert [each["id"] for each in state["exports"]] == [job["id"]]
    assert state["exports"][0]["copy_only"] is False
    assert next(each for each in state["files"] if each["id"] == VCF)["alias"] == ["demo/results", "out.vcf"]
    assert state["storage"].startswith("file://")
    listed = requests.get(local(emulator, "requests"))
    assert listed.json()["requests"][0]["exports"] == [job["id"]]
    assert emulator.token not in listed.text
    assert state["requests"] == len(listed.json()["requests"])


def test_knobs_and_faults_from_other_processes(emulator, caller):
    turned = requests.post(local(emulator, "knobs"), json={"stuck": True, "omit": ["started_on"]}).json()
    assert (turned["stuck"], turned["omit"]) == (True, ["started_on"])
    assert emulator.knobs.stuck is True
    assert requests.get(local(emulator, "knobs")).json() == turned
    wrong = requests.post(local(emulator, "knobs"), json={"stick": True})
    assert (wrong.status_code, "stick" in wrong.json()["error"]) == (400, True)
    made = requests.post(local(emulator, "trouble"), json={"kind": "html", "status": 504})
    assert made.json()["times"] == 1
    assert caller.export().status_code == 504
    assert requests.post(local(emulator, "trouble"), json={"kind": "earthquake"}).status_code == 400
    emulator.trouble("error", times=0, method="*", path="*")
    requests.post(local(emulator, "trouble/clear"))
    assert caller.get("/user").status_code == 200


def test_release_from_another_process(emulator, caller):
    emulator.trouble("job_stuck")
    job = caller.export().json()["id"]
    requests.post(local(emulator, f"exports/{job}/release"))
    assert caller.ended(job)["state"] == "COMPLETED"
    assert requests.post(local(emulator, "exports/nothing/release")).status_code == 400


def test_a_web_page_cannot_use_the_control_api(emulator):
    page = {"Origin": "https://evil.example"}
    assert requests.post(local(emulator, "knobs"), json={"stuck": True}, headers=page).status_code == 403
    assert emulator.knobs.stuck is False


def test_control_requests_are_not_logged_and_not_affected_by_faults(emulator):
    emulator.knobs.offline = True
    assert requests.get(local(emulator, "state")).status_code == 200
    assert emulator.requests == []


def test_the_connection(emulator):
    made = json.loads(emulator.connection_json())
    assert made == {"conn_type": "sevenbridges", "host": emulator.url, "password": emulator.token}
    assert re.fullmatch("[0-9a-f]{32}", emulator.token)


def test_a_port_in_use_is_reported():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        other = Emulator(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="address already in use"):
            other.start()
        other.stop()


def test_stopping_cancels_jobs_immediately():
    with Emulator() as emulator:
        emulator.knobs.stuck = True
        Caller(emulator).export()
        emulator.trouble("delay", method="GET", path="/v2/user", before=60)


@pytest.mark.parametrize(
    ("stop", "way"), [(signal.SIGINT, "argument"), (signal.SIGTERM, "file"), (signal.SIGTERM, "stdin")]
)
def test_the_command(tmp_path, monkeypatch, stop, way):
    monkeypatch.setenv("SB_AUTH_TOKEN", "f" * 32)
    token = "0123456789abcdef0123456789abcdef"
    command = [sys.executable, "-m", "airflow_sb_provider.emulator", "--storage", str(tmp_path)]
    command += ["--knob", "stuck=true", "--knob", "created_status=201"]
    (tmp_path / "token").write_text(f"{token}\n")
    (tmp_path / "token").chmod(0o600)
    ways = {
        "argument": ["--token", token],
        "file": ["--token-file", str(tmp_path / "token")],
        "stdin": ["--token-file", "-"],
    }
    command += ways[way]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdin
        assert process.stdout
        if way == "stdin":
            process.stdin.write(f"{token}\n")
            process.stdin.flush()
        lines = [process.stdout.readline()]
        while lines[-1] and "Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline())
        text = "".join(lines)
        shell = re.search("export AIRFLOW_CONN_SEVENBRIDGES_DEFAULT='(.*)'", text)
        assert shell
        connection = json.loads(shell[1])
        assert connection["conn_type"] == "sevenbridges"
        headers = {"X-SBG-Auth-Token": connection["password"]}
        assert connection["password"] == token
        assert requests.get(f"{connection['host']}/user", headers=headers).json()["username"] == "demo"
        for part in (VCF, "demo/results", "demo/genomics", str(tmp_path)):
            assert part in text
        knobs = requests.get(connection["host"].replace("/v2", "/_local/knobs")).json()
        assert (knobs["stuck"], knobs["created_status"]) == (True, 201)
        process.send_signal(stop)
        assert process.wait(300) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("setting", ["stuck=perhaps", "nonsense=1"])
def test_the_command_rejects_a_wrong_knob(setting, capsys):
    from airflow_sb_provider.emulator.__main__ import main

    assert main(["--knob", setting]) == 2
    assert setting.partition("=")[0] in capsys.readouterr().err


def test_the_command_rejects_a_token_file_without_a_token(tmp_path, capsys, monkeypatch):
    from airflow_sb_provider.emulator.__main__ import main

    (tmp_path / "empty").write_text("\n")
    (tmp_path / "empty").chmod(0o644)
    (tmp_path / "odd").write_text("two words\n")
    (tmp_path / "odd").chmod(0o640)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    for file, words in (("empty", "is empty"), ("odd", "token: must be one line"), ("missing", "No such file")):
        assert main(["--token-file", str(tmp_path / file)]) == 2
        shown = capsys.readouterr().err
        assert words in shown
        assert "two words" not in shown
        assert ("chmod 600" in shown) is (file != "missing")
    assert main(["--token-file", "-"]) == 2
    with pytest.raises(SystemExit):
        main(["--token", "a", "--token-file", "b"])


def test_help_lists_the_knobs(capsys):
    from airflow_sb_provider.emulator.__main__ import main

    with pytest.raises(SystemExit):
        main(["--help"])
    assert "alias_location_includes_prefix" in capsys.readouterr().out


def test_many_concurrent_jobs(emulator, caller):
    emulator.knobs.stuck = True
    for number in range(3):
        items = [
            {"source": {"file": VCF}, "destination": {"volume": "demo/archive", "location": f"{number}/{each}"}}
            for each in range(100)
        ]
        caller.post("/bulk/storage/exports/create?copy_only=true", {"items": items})
    emulator.knobs.stuck = False
    eventually(lambda: {job.state for job in emulator.exports} == {"COMPLETED"})
    assert len(emulator.platform.storage.list("demo-archive")) == 300


def test_it_imports_neither_airflow_nor_the_rest_of_the_provider():
    code = (
        "import sys, airflow_sb_provider.emulator.__main__;"
        "print([name for name in sys.modules if name.partition('.')[0] == 'airflow' or "
        "name.startswith('airflow_sb_provider.') and not name.startswith('airflow_sb_provider.emulator')])"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
