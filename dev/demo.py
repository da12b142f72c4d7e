"""`make demo`, `make demo-task`, `make ui`: a DAG on a real Airflow and the local Platform, by the REST API."""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.emulator import Emulator, Knobs
from airflow_sb_provider.emulator.listing import contents
from airflow_sb_provider.emulator.seed import VCF
from dev.airflow_stack import AirflowStack, StackError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider.emulator.records import RequestRecord
    from dev.airflow_stack import Say

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE_DAGS = ROOT / "example_dags"
# Kept after the run, so that you can inspect the exported object. The next run deletes it.
STORAGE = ROOT / "build" / "demo"
DAG_ID, TASK_DAG_ID = "sevenbridges_export", "sevenbridges_run_app"
VOLUME, LOCATION = "demo/results", "first-export/sample.vcf"
LOG_LINES = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        knobs = Knobs.from_text(options.knobs)
    except ValueError as error:
        print(f"KNOBS: {error}", file=sys.stderr)
        return 2
    dags = Path(options.dags or EXAMPLE_DAGS).resolve()
    if not dags.is_dir():
        print(f"DAGS: {options.dags} is not a folder", file=sys.stderr)
        return 2
    # A shell's `&` makes a process ignore SIGINT. SIGTERM must also stop what was started.
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.default_int_handler)
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begin:5.1f} s] {text}", flush=True)

    shutil.rmtree(STORAGE, ignore_errors=True)
    STORAGE.mkdir(parents=True)
    with (
        tempfile.TemporaryDirectory(prefix="sevenbridges-demo-") as folder,
        Emulator(storage=str(STORAGE), knobs=knobs) as platform,
    ):
        say(f"Local Platform: {platform.url}")
        say("Starting Airflow (about 30 s)")
        connection = {"sevenbridges_default": platform.connection_json()}
        home = Path(folder) / "airflow"
        try:
            with AirflowStack(home, dags, connection, platform.s3_environment(), say=say) as airflow:
                say(f"Airflow: {airflow.url}")
                if options.dags:
                    finished = _show_dags(airflow, dags, say)
                else:
                    finished = (_run_app if options.task else _export)(airflow, platform, say, options)
                if options.keep:
                    _wait_for_interrupt(airflow, platform)
        except StackError as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            say("Interrupted. All processes are stopped.")
            return 130
        say("All processes are stopped.")
    return 0 if finished else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dev.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep everything running until Ctrl-C")
    parser.add_argument("--task", action="store_true", help="run an app and export its outputs, instead of one export")
    parser.add_argument("--dags", metavar="FOLDER", help="load the DAGs of this folder instead of the examples")
    parser.add_argument(
        "--knobs", metavar="NAME=VALUE,...", default="", help="set knobs of the local Platform; the export may not end"
    )
    return parser


def _show_dags(airflow: AirflowStack, folder: Path, say: Say) -> bool:
    """Wait until Airflow has parsed the user's DAGs, and print them and what cannot be imported."""
    say(f"Waiting until Airflow has parsed {folder}")
    dags, errors = airflow.wait_for_any_dag()
    for error in errors:
        print(f"{error['filename']}:\n{error['stack_trace']}", file=sys.stderr)
    say(f"DAGs: {', '.join(dags) or 'none'}")
    # The user's errors are no failure of what was started.
    return True


def _export(airflow: AirflowStack, platform: Emulator, say: Say, options: argparse.Namespace) -> bool:
    source = platform.platform.storage.read_source(VCF)
    params = {"file": VCF, "volume": VOLUME, "location": LOCATION, "copy_only": True}
    run_id = _run(airflow, platform, say, options, DAG_ID, params)
    if run_id is None or (options.keep and options.knobs):
        return run_id is not None
    result = airflow.xcom(DAG_ID, run_id, "export")
    print(json.dumps(result, indent=2))
    say(f"Downstream task read_object returned: {airflow.xcom(DAG_ID, run_id, 'read_object')!r}")
    if platform.object_bytes(VOLUME, LOCATION) != source:
        say("Failed: the exported object differs from the source file.")
        return False
    say(f"Exported {result['size']} bytes to {result['uri']}")
    say(f"Object on this machine: {platform.object_url(VOLUME, LOCATION).removeprefix('file://')}")
    return True


def _run_app(airflow: AirflowStack, platform: Emulator, say: Say, options: argparse.Namespace) -> bool:
    source = platform.platform.storage.read_source(VCF)
    run_id = _run(airflow, platform, say, options, TASK_DAG_ID, {"file": VCF, "volume": VOLUME})
    if run_id is None or (options.keep and options.knobs):
        return run_id is not None
    result = airflow.xcom(TASK_DAG_ID, run_id, "run_app")
    print(json.dumps(result, indent=2))
    print(json.dumps(airflow.xcom(TASK_DAG_ID, run_id, "export"), indent=2))
    [output] = result["output_files"]
    names = [output["name"], *(file["name"] for file in output["index_files"])]
    objects = {name: platform.object_bytes(VOLUME, f"runs/{run_id}/{name}") for name in names}
    if gzip.decompress(objects[output["name"]]) != source:
        say("Failed: the exported output is not the compressed source file.")
        return False
    for name, content in objects.items():
        say(f"Exported {name}, {len(content)} bytes, to {VOLUME}/runs/{run_id}")
    say(f"Object on this machine: {platform.object_url(VOLUME, f'runs/{run_id}/{names[0]}').removeprefix('file://')}")
    return True


def _run(
    airflow: AirflowStack,
    platform: Emulator,
    say: Say,
    options: argparse.Namespace,
    dag_id: str,
    params: dict[str, Any],
) -> str | None:
    """Run a DAG to its end, unless that depends on knobs, and return the run's id; None if a task failed."""
    say(f"Waiting until Airflow has parsed DAG {dag_id}")
    run_id = airflow.trigger(dag_id, params)
    say(f"Triggered DAG {dag_id}: {json.dumps(params)}")
    if options.keep and options.knobs:
        say("Its end depends on the knobs: watch it in the browser")
        return run_id

    def accepted(record: RequestRecord) -> None:
        for kind, ids in (("export submitted", record.exports), ("task created or started", record.tasks)):
            if ids:
                say(f"  {kind}: {', '.join(ids)}")

    platform.on("accepted", accepted)

    def changed(task: str, state: str) -> None:
        jobs = [
            *(("job", job) for job in platform.exports),
            *(("task", job) for job in platform.platform.tasks.values()),
        ]
        shown_jobs = ", ".join(f"{kind} {job.id} is {job.state}" for kind, job in jobs)
        wait = "; waiting for the next state" if state not in ("success", "failed") else ""
        shown = "not started" if state == "none" else state
        say(f"  task {task}: {shown}{f' ({shown_jobs})' if jobs else ''}{wait}")

    states = airflow.wait(dag_id, run_id, on_change=changed)
    failed = [task for task, state in states.items() if state != "success"]
    for task in failed:
        # A task that never started has no log.
        if states[task] == "failed":
            print("\n".join(airflow.task_log(dag_id, run_id, task).splitlines()[-LOG_LINES:]), file=sys.stderr)
    if failed:
        say(f"Failed tasks: {', '.join(failed)}")
    return None if failed else run_id


def _wait_for_interrupt(airflow: AirflowStack, platform: Emulator) -> None:
    connection = json.loads(platform.connection_json())
    print(f"""
Airflow:    {airflow.url}  (no login)
Connection: tasks use sevenbridges_default. To try the form (Admin > Connections), enter (the token is valid only here):
  Connection Id    sevenbridges_local
  Connection Type  Seven Bridges
  Host             {connection["host"]}
  Password         {connection["password"]}
  or as JSON       {platform.connection_json()}
Platform:   {platform.url}""")
    print("\n".join(contents(platform)))
    print(f"State:      {airflow.home}  (removed at the end)\nStop with Ctrl-C.", flush=True)
    try:
        while True:
            airflow.check_alive()
            time.sleep(1)
    except KeyboardInterrupt:
        # A second Ctrl-C would interrupt the cleanup.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("\nStopping", flush=True)


if __name__ == "__main__":
    sys.exit(main())
