"""One export from beginning to end: local Platform, real Airflow, the example DAG triggered through the REST API."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.emulator import Emulator
from airflow_sb_provider.emulator.seed import VCF
from dev.airflow_stack import AirflowStack, StackError

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE_DAGS = ROOT / "example_dags"
# Kept afterwards, so that the exported object can be looked at; the next run begins anew.
STORAGE = ROOT / "build" / "demo"
DAG_ID = "sevenbridges_export"
VOLUME, LOCATION = "demo/results", "first-export/sample.vcf"
LOG_LINES = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dev.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    options = parser.parse_args(arguments)
    # A shell's `&` leaves SIGINT ignored; SIGTERM must stop what was started, too.
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.default_int_handler)
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begin:5.1f} s] {text}", flush=True)

    shutil.rmtree(STORAGE, ignore_errors=True)
    STORAGE.mkdir(parents=True)
    with (
        tempfile.TemporaryDirectory(prefix="sevenbridges-demo-") as folder,
        Emulator(storage=str(STORAGE)) as platform,
    ):
        say(f"The local Platform answers at {platform.url}")
        say("Starting Airflow: api-server, scheduler, dag-processor, triggerer (about 30 s) ...")
        connection = {"sevenbridges_default": platform.connection_json()}
        try:
            with AirflowStack(Path(folder) / "airflow", EXAMPLE_DAGS, connection, platform.s3_environment()) as airflow:
                say(f"Airflow is healthy at {airflow.url}")
                finished = _export(airflow, platform, say)
                if options.keep:
                    _wait_for_interrupt(airflow, platform)
        except StackError as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            say("Interrupted; everything is stopped.")
            return 130
        say("Everything is stopped.")
    return 0 if finished else 1


def _export(airflow: AirflowStack, platform: Emulator, say: Any) -> bool:
    source = platform.platform.storage.read_source(VCF)
    params = {"file": VCF, "volume": VOLUME, "location": LOCATION, "copy_only": True}
    run_id = airflow.trigger(DAG_ID, params)
    say(f"Triggered the DAG {DAG_ID} with {json.dumps(params)}")

    def changed(task: str, state: str) -> None:
        jobs = ", ".join(f"job {job.id} is {job.state}" for job in platform.exports)
        say(f"  task {task}: {state}{f' ({jobs})' if jobs else ''}")

    states = airflow.wait(DAG_ID, run_id, on_change=changed)
    failed = [task for task, state in states.items() if state != "success"]
    for task in failed:
        # One that was never started has no log.
        if states[task] == "failed":
            print("\n".join(airflow.task_log(DAG_ID, run_id, task).splitlines()[-LOG_LINES:]), file=sys.stderr)
    if failed:
        say(f"Failed: {', '.join(failed)}")
        return False
    result = airflow.xcom(DAG_ID, run_id, "export")
    print(json.dumps(result, indent=2))
    say(f"The downstream task read: {airflow.xcom(DAG_ID, run_id, 'read_object')!r}")
    if platform.object_bytes(VOLUME, LOCATION) != source:
        say("The exported object is not the file.")
        return False
    say(f"Exported {result['size']} bytes to {result['uri']}")
    say(f"The object: {platform.object_url(VOLUME, LOCATION).removeprefix('file://')}")
    return True


def _wait_for_interrupt(airflow: AirflowStack, platform: Emulator) -> None:
    print(f"\nAirflow:  {airflow.url}  (no login)\nPlatform: {platform.url}")
    print(f"State:    {airflow.home}  (removed afterwards)\nCtrl-C stops both.", flush=True)
    try:
        while True:
            airflow.check_alive()
            time.sleep(1)
    except KeyboardInterrupt:
        # A second Ctrl-C would leave processes behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("\nStopping ...", flush=True)


if __name__ == "__main__":
    sys.exit(main())
