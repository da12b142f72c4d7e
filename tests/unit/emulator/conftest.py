from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_sb_provider.emulator import Emulator, Knobs
from airflow_sb_provider.emulator.seed import VCF

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Only ends a test that hangs: a loaded machine may be slow.
DEADLINE = 60.0


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(knobs=Knobs(pending_seconds=0, running_seconds=0)) as running:
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
