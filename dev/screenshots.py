"""Take the screenshots of the documentation: `python -m dev.screenshots`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from airflow_sb_provider.emulator import Emulator, Knobs
from airflow_sb_provider.task_status import STATUS
from dev.ui import TAB, NoBrowserError, UiStack, browser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dev.ui import Browser

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "ui"
EXPORT, BULK, TWO_STEPS = "sevenbridges_export", "sevenbridges_bulk_export", "sevenbridges_export_two_steps"
APP = "sevenbridges_run_app"
THEMES = ("light", "dark")
DESK, TALL, PHONE = (1400, 900), (1400, 1100), (390, 844)


class Photographer:
    """Takes screenshots, each in the light theme unless others are named."""

    def __init__(self, seen: Browser, airflow: UiStack) -> None:
        self.seen, self.airflow = seen, airflow

    def shoot(self, name: str, *words: str, themes: Sequence[str] = ("light",), settle: float = 1.0) -> None:
        """Take screenshots of the tab that the browser is in."""
        for theme in themes:
            self.seen.theme(theme)
            self.seen.driver.refresh()
            self.seen.driver.switch_to.default_content()
            frame = self.seen.find(By.CSS_SELECTOR, "iframe[title='Seven Bridges']")
            self.seen.driver.switch_to.frame(frame)
            self.seen.wait_for(*words)
            time.sleep(settle)
            self._save(f"{name}-{theme}")

    def shoot_alone(self, name: str, dag_id: str, run_id: str, task_id: str) -> None:
        """Take a screenshot of the tab's page alone, in the size of a phone."""
        self.seen.resize(*PHONE)
        query = urlencode({"dag_id": dag_id, "run_id": run_id, "task_id": task_id})
        self.seen.theme("light")
        self.seen.go(f"{self.airflow.url}/{TAB}/?{query}")
        self.seen.wait_for("Source file")
        self._save(f"{name}-light")
        self.seen.resize(*DESK)

    def shoot_page(self, name: str, settle: float = 1.0) -> None:
        """Take a screenshot of the page as it is."""
        time.sleep(settle)
        self._save(name)

    def _save(self, name: str) -> None:
        print(f"docs/ui/{name}.png", flush=True)
        path = FOLDER / f"{name}.png"
        self.seen.shoot(path)
        if tool := shutil.which("pngquant"):
            # Half the size or less.
            subprocess.run([tool, "--force", "--ext", ".png", str(path)], check=True)

    def tab(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Open a tab."""
        self.seen.open_tab(self.airflow, dag_id, run_id, task_id)


def main() -> int:
    """Take all screenshots and return the exit status."""
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

    platform.trouble("job_fails", code=9103)
    bulk = airflow.trigger(BULK, {"location_pattern": "cohort-7/{path}/{name}"})
    airflow.wait(BULK, bulk)
    # Ten thousand exports take a quarter of an hour, so the status of ten thousand is made up.
    _write(airflow, bulk, STATUS, _partially_failed())
    seen.resize(1400, 1320)
    camera.tab(BULK, bulk, "export")
    camera.shoot("bulk-failed", "of 10,000 files")
    seen.resize(*DESK)

    platform.knobs.running_seconds = 3600.0
    exports = len(platform.exports)
    location = {"location": "sample-12/NA12878.vcf", "copy_only": False}
    run = airflow.trigger(EXPORT, location)
    seen.until(lambda: len(platform.exports) > exports, "an export", 240)
    camera.tab(EXPORT, run, "export")
    camera.shoot("running", "Moving NA12878.vcf")
    waiting = airflow.trigger(TWO_STEPS, {"location": "sample-11/NA12878.bam", "file": "5f0000000000000000000002"})
    seen.until(lambda: airflow.states(TWO_STEPS, waiting).get("wait") == "deferred", "a deferred sensor", 240)
    camera.tab(TWO_STEPS, waiting, "wait")
    seen.wait_for("Waiting for export", patience=120)
    camera.shoot("sensor", "Waiting for export")
    platform.knobs.running_seconds = 1.0
    airflow.wait(TWO_STEPS, waiting)
    airflow.wait(EXPORT, run)
    camera.tab(EXPORT, run, "export")
    camera.shoot("done", "Moved NA12878.vcf", themes=THEMES)
    camera.shoot_alone("phone", EXPORT, run, "export")

    platform.trouble("job_fails", code=9103)
    failed = airflow.trigger(EXPORT, {"location": "sample-12/NA12878.bam", "file": "5f0000000000000000000002"})
    airflow.wait(EXPORT, failed)
    seen.resize(*TALL)
    camera.tab(EXPORT, failed, "export")
    camera.shoot("failed", "What to do:", themes=THEMES)
    seen.resize(*DESK)
    _app(camera, platform)


def _app(camera: Photographer, platform: Emulator) -> None:
    """Take a screenshot of an app that runs."""
    platform.knobs.task_running_seconds = 3600.0
    run = camera.airflow.trigger(APP, {})
    camera.seen.until(lambda: platform.platform.tasks, "a task of the Platform", 240)
    camera.tab(APP, run, "run_app")
    camera.shoot("app", "Running demo/genomics/gzip-with-index", "so far")


def _forms(camera: Photographer) -> None:
    airflow, seen = camera.airflow, camera.seen
    seen.resize(1400, 940)
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
    seen.resize(1400, 1500)
    seen.button("Extra Fields").click()
    camera.shoot_page("connection-extra")
    for dag_id in (EXPORT, BULK, TWO_STEPS):
        airflow.wait_for_dag(dag_id)
    seen.resize(1400, 1240)
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


def _partially_failed() -> dict[str, Any]:
    taken = "An object already exists at the location. Choose another location."
    failed = "The Platform could not reach the cloud storage. Retry later."
    return {
        "kind": "bulk",
        "try_number": 1,
        "total": 10_000,
        "counts": {"COMPLETED": 9_963, "FAILED": 31, "REFUSED": 6},
        "adopted": 0,
        "bytes": 4_084_830_000_000,
        "bytes_total": 4_100_000_000_000,
        "seconds": 1620.0,
        "started_at": "2026-11-24T09:02:11+00:00",
        "source": "project demo/genomics",
        "volume": "demo/results",
        "uri": "s3://demo-results/exports/cohort-7/",
        "copy_only": False,
        "overwrite": False,
        "manifest": "s3://demo-manifests/cohort-7/2026-11-24.jsonl",
        "errors": [
            {
                "file": f"5f0000000000000000001{number:03}",
                "name": f"HG00{number:03}.final.cram",
                "state": "FAILED" if number % 3 else "REFUSED",
                "code": 9100 if number % 3 else 9107,
                "message": failed if number % 3 else taken,
            }
            for number in range(96, 106)
        ],
        "at": "2026-11-24T09:29:11+00:00",
    }


if __name__ == "__main__":
    sys.exit(main())
