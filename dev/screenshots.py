"""Screenshots of Airflow for the documentation: `python -m dev.screenshots`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from airflow_sb_provider.emulator import Emulator, Knobs
from airflow_sb_provider.task_status import PROGRESS, STATUS
from dev.ui import TAB, NoBrowserError, UiStack, browser

if TYPE_CHECKING:
    from dev.ui import Browser

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "ui"
EXPORT, BULK = "sevenbridges_export", "sevenbridges_bulk_export"
THEMES = ("light", "dark")
DESK, PHONE = (1400, 900), (390, 844)


class Photographer:
    """Takes each screenshot in the light and the dark theme."""

    def __init__(self, seen: Browser, airflow: UiStack) -> None:
        self.seen, self.airflow = seen, airflow

    def shoot(self, name: str, *words: str, settle: float = 1.0) -> None:
        """Take screenshots of the tab that is open."""
        for theme in THEMES:
            self.seen.theme(theme)
            self.seen.driver.refresh()
            self.seen.driver.switch_to.default_content()
            frame = self.seen.find(By.CSS_SELECTOR, "iframe[title=Export]")
            self.seen.driver.switch_to.frame(frame)
            self.seen.wait_for(*words)
            time.sleep(settle)
            self._save(f"{name}-{theme}")

    def shoot_alone(self, name: str, dag_id: str, run_id: str, task_id: str) -> None:
        """Take screenshots of the tab's page outside Airflow, in the size of a phone."""
        self.seen.resize(*PHONE)
        query = urlencode({"dag_id": dag_id, "run_id": run_id, "task_id": task_id})
        for theme in THEMES:
            self.seen.theme(theme)
            self.seen.go(f"{self.airflow.url}/{TAB}/?{query}")
            self.seen.wait_for("Source file")
            self._save(f"{name}-{theme}")
        self.seen.resize(*DESK)

    def shoot_page(self, name: str, settle: float = 1.0) -> None:
        """Take one screenshot of the page as it is."""
        time.sleep(settle)
        self._save(name)

    def _save(self, name: str) -> None:
        print(f"docs/ui/{name}.png", flush=True)
        self.seen.shoot(FOLDER / f"{name}.png")

    def tab(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Open a tab."""
        self.seen.open_tab(self.airflow, dag_id, run_id, task_id)


def main() -> int:
    """Take all screenshots. Returns the exit status."""
    with (
        tempfile.TemporaryDirectory(prefix="sevenbridges-screenshots-") as folder,
        Emulator(knobs=Knobs(pending_seconds=1.0, running_seconds=1.0)) as platform,
    ):
        try:
            with (
                browser(*DESK) as seen,
                UiStack(Path(folder) / "airflow", ROOT / "example_dags", platform, connected=True) as airflow,
            ):
                seen.log_in(airflow)
                _take(Photographer(seen, airflow), platform)
        except NoBrowserError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


def _take(camera: Photographer, platform: Emulator) -> None:
    airflow, seen = camera.airflow, camera.seen
    _forms(camera)

    bulk = airflow.trigger(BULK, {"location_pattern": "cohort-7/{path}/{name}"})
    airflow.wait(BULK, bulk)
    camera.tab(BULK, bulk, "export")
    camera.shoot("bulk-done", "files copied")
    # 10,000 exports would take 15 minutes, so the status that the task would write is written directly.
    _write(airflow, bulk, STATUS, _partly_failed())
    camera.tab(BULK, bulk, "export")
    camera.shoot("bulk-failed", "of 10,000 files")
    platform.knobs.stuck = True
    running = airflow.trigger(BULK, {"location_pattern": "cohort-8/{path}/{name}"})
    seen.until(lambda: airflow.states(BULK, running).get("export") == "deferred", "a deferred task", 120)
    for key, value in zip((STATUS, PROGRESS), _running(), strict=True):
        _write(airflow, running, key, value)
    camera.tab(BULK, running, "export")
    camera.shoot("bulk-running", "of 10,000 files")
    platform.knobs.stuck = False
    airflow.wait(BULK, running)

    platform.knobs.running_seconds = 3600.0
    exports = len(platform.exports)
    location = {"location": "sample-12/NA12878.vcf", "copy_only": False}
    run = airflow.trigger(EXPORT, location)
    seen.until(lambda: len(platform.exports) > exports, "an export", 240)
    camera.tab(EXPORT, run, "export")
    camera.shoot("running", "Moving NA12878.vcf")
    platform.knobs.running_seconds = 1.0
    airflow.wait(EXPORT, run)
    camera.tab(EXPORT, run, "export")
    camera.shoot("done", "Moved NA12878.vcf")
    camera.shoot_alone("phone", EXPORT, run, "export")
    seen.go(airflow.task(EXPORT, run, "export") + "/details")
    seen.theme("light")
    seen.driver.refresh()
    seen.button("Exported to")
    camera.shoot_page("links")

    platform.trouble("job_fails", code=9103)
    failed = airflow.trigger(EXPORT, {"location": "sample-12/NA12878.bam", "file": "5f0000000000000000000002"})
    airflow.wait(EXPORT, failed)
    camera.tab(EXPORT, failed, "export")
    camera.shoot("failed", "What to do:")
    camera.tab(EXPORT, failed, "properties")
    camera.shoot("empty", "This task exports nothing")


def _forms(camera: Photographer) -> None:
    airflow, seen = camera.airflow, camera.seen
    seen.resize(1400, 1240)
    seen.go(f"{airflow.url}/connections")
    seen.button("Add Connection").click()
    seen.field("connection_id").send_keys("sevenbridges_default")
    kind = seen.find(By.CSS_SELECTOR, "input[role=combobox]")
    kind.click()
    kind.send_keys("Seven")
    seen.wait_for("Seven Bridges")
    kind.send_keys(Keys.ENTER)
    seen.field("password")
    camera.shoot_page("connection")
    seen.button("Extra Fields").click()
    camera.shoot_page("connection-extra")
    airflow.wait_for_dag(EXPORT)
    airflow.wait_for_dag(BULK)
    seen.go(f"{airflow.url}/dags/{EXPORT}")
    seen.button("Trigger").click()
    seen.wait_for("Run Parameters", "Overwrite")
    camera.shoot_page("trigger")
    seen.resize(*DESK)


def _write(airflow: UiStack, run: str, key: str, value: Any) -> None:
    path = f"/dags/{BULK}/dagRuns/{run}/taskInstances/export/xcomEntries"
    answer = airflow.api("PATCH", f"{path}/{key}", json={"value": value, "map_index": -1})
    if answer.status_code == 404:
        answer = airflow.api("POST", path, json={"key": key, "value": value, "map_index": -1})
    answer.raise_for_status()


def _status(**counts: int) -> dict[str, Any]:
    done = counts["COMPLETED"]
    return {
        "kind": "bulk",
        "try_number": 1,
        "total": 10_000,
        "counts": counts,
        "adopted": 0,
        "bytes": 4_100_000_000 * done // 10,
        "bytes_total": 4_100_000_000 * 1_000,
        "seconds": 1620.0,
        "started_at": "2026-11-24T09:02:11+00:00",
        "source": "project demo/genomics",
        "volume": "demo/results",
        "uri": "s3://demo-results/exports/cohort-7/",
        "copy_only": False,
        "overwrite": False,
        "manifest": "s3://demo-manifests/cohort-7/2026-11-24.jsonl",
        "errors": [],
        "at": "2026-11-24T09:29:11+00:00",
    }


def _running() -> tuple[dict[str, Any], dict[str, Any]]:
    progress = {
        "at": "2026-11-24T09:30:00+00:00",
        "note": "600 of 1,000 exports have ended.",
        "total": 1000,
        "counts": {},
    }
    return _status(COMPLETED=6_210, RUNNING=400, PENDING=512, WAITING=2_878) | {"seconds": None}, progress


def _partly_failed() -> dict[str, Any]:
    status = _status(COMPLETED=9_963, FAILED=31, REFUSED=6)
    taken = "File already exists at the location (HTTP 409, code 9107). Choose another location, or set overwrite."
    status["errors"] = [
        {
            "file": f"5f00000000000000000010{number:02}",
            "name": f"HG00{number:03}.final.cram",
            "state": "REFUSED" if number % 3 == 0 else "FAILED",
            "code": 9107 if number % 3 == 0 else 9100,
            "message": taken
            if number % 3 == 0
            else "Export failed: the volume answered 503 (code 9100). Try it again.",
        }
        for number in range(96, 106)
    ]
    return status


if __name__ == "__main__":
    sys.exit(main())
