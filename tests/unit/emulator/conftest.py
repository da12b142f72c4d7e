from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_sb_provider.emulator import Emulator, Knobs
from airflow_sb_provider.emulator.seed import PROJECT, VCF, WORD_COUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Only ends a test that hangs: a loaded machine may be slow.
DEADLINE = 60.0


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    knobs = Knobs(pending_seconds=0, running_seconds=0, task_queued_seconds=0, task_running_seconds=0)
    knobs.task_aborting_seconds = 0
    with Emulator(knobs=knobs) as running:
        yield running


class Caller:
    """A client of the local Platform with the token of one user."""

    def __init__(self, emulator: Emulator, token: str | None = None) -> None:
        self.emulator = emulator
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["X-SBG-Auth-Token"] = token or emulator.token

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.emulator.url + path, timeout=DEADLINE, allow_redirects=False, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        return self.session.post(
            self.emulator.url + path, json=body, timeout=DEADLINE, allow_redirects=False, **options
        )

    def patch(self, path: str, body: Any) -> requests.Response:
        return self.session.patch(self.emulator.url + path, json=body, timeout=DEADLINE)

    def delete(self, path: str) -> requests.Response:
        return self.session.delete(self.emulator.url + path, timeout=DEADLINE)

    def create(self, app: str = WORD_COUNT, query: str = "", **body: Any) -> requests.Response:
        """Create a task, by default a draft that can run."""
        inputs = {"inputs": {"files": [as_file(VCF)]}} if app == WORD_COUNT else {}
        return self.post(f"/tasks{query}", {"project": PROJECT, "app": app, "name": "a task", **inputs, **body})

    def draft(self, app: str = WORD_COUNT, **body: Any) -> str:
        """Create a draft, and return its id."""
        answer = self.create(app, **body)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def run(self, task_id: str, query: str = "") -> requests.Response:
        return self.post(f"/tasks/{task_id}/actions/run{query}")

    def abort(self, task_id: str) -> requests.Response:
        return self.post(f"/tasks/{task_id}/actions/abort")

    def task(self, task_id: str) -> dict[str, Any]:
        answer = self.get(f"/tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def finished(self, task_id: str) -> dict[str, Any]:
        """Wait until the task is terminal, and return it."""
        return eventually(
            lambda: task if (task := self.task(task_id))["status"] in ("COMPLETED", "FAILED", "ABORTED") else None
        )

    def completed(self, app: str, inputs: dict[str, Any], **body: Any) -> dict[str, Any]:
        """Run a task to its end, and return it."""
        answer = self.create(app, "?action=run", inputs=inputs, **body)
        assert answer.status_code == 200, answer.text
        assert not answer.json()["errors"]
        task = self.finished(answer.json()["id"])
        assert task["status"] == "COMPLETED", task
        return task

    def export(
        self, file: str = VCF, location: str = "out.vcf", volume: str = "demo/results", **body: Any
    ) -> requests.Response:
        copy_only = body.pop("copy_only", None)
        return self.post(
            "/storage/exports",
            export_body(file, location, volume, **body),
            params=None if copy_only is None else {"copy_only": copy_only},
        )

    def ended(self, started: requests.Response | str) -> dict[str, Any]:
        """Wait until the job is COMPLETED or FAILED, and return it."""
        if not isinstance(started, str):
            assert started.status_code in (200, 201), started.text
            started = started.json()["id"]

        def job() -> dict[str, Any] | None:
            answer = self.get(f"/storage/exports/{started}")
            assert answer.status_code == 200, answer.text
            return answer.json() if answer.json()["state"] in ("COMPLETED", "FAILED") else None

        return eventually(job)


@pytest.fixture
def caller(emulator: Emulator) -> Caller:
    return Caller(emulator)


def as_file(file_id: str, kind: str = "File") -> dict[str, str]:
    """Return a file or folder as the value of an input."""
    return {"class": kind, "path": file_id}


def export_body(
    file: str = VCF, location: str = "out.vcf", volume: str = "demo/results", **body: Any
) -> dict[str, Any]:
    return {"source": {"file": file}, "destination": {"volume": volume, "location": location}, **body}


def eventually(condition: Callable[[], Any]) -> Any:
    """Wait until `condition` returns a true value, and return it."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.005)
    raise AssertionError(f"not within {DEADLINE} s")


def code(answer: requests.Response) -> tuple[int, int]:
    """Return status and code of an error response, and check that its body has the same status."""
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["message"]
    assert body["more_info"].endswith(f"#{body['code']}")
    return answer.status_code, body["code"]
