"""`make matrix`: test the built wheel on every supported Airflow and Python.

A cell is one Airflow on one Python: a separate environment under ``build/matrix`` with the wheel and the packages that
were current on the day of that Airflow's release. It runs ``tests/matrix`` and ``tests/unit``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "matrix"
# A copy of the tests without the package, so that the cells import the installed wheel.
TREE = BUILD / "tree"
COPIED = ("dev", "docs", "example_dags", "tests", "pyproject.toml")
UV = Path(sys.executable).with_name("uv")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = ("3.11", "3.12", "3.13")
TOOLS = (
    "apache-airflow-providers-openlineage",
    "boto3",
    "hypothesis",
    "jsonschema",
    "moto[server]",
    "psutil",
    "pytest",
    "pytest-asyncio",
    "pytest-timeout",
    "requests-mock",
)
NO_PYTHON = "no Python"
# The steps of a cell and their tests.
STEPS = {
    "install": "",
    "provider": "tests/matrix/test_provider.py",
    "unit": "tests/unit",
    "attributes": "tests/matrix/test_shadowing.py",
    "sensor": "tests/matrix/test_sensor_flags.py",
    "examples": "tests/matrix/test_examples.py",
    "mapping": "tests/matrix/test_mapping.py",
    "running": "tests/matrix/test_running.py",
}


@dataclass(frozen=True)
class Line:
    """An Airflow release, the end of the day of its release, and the Pythons that it supports."""

    airflow: str
    until: str
    pythons: tuple[str, ...] = PYTHONS
    # Without this package, which managed services install, the connection form of 3.0 has no fields of providers.
    extra_packages: tuple[str, ...] = ()
    # Packages that the extra 'emulator' and the test tools need in an older release than Airflow alone gets.
    downgraded: tuple[str, ...] = ()

    def matches(self, part: str) -> bool:
        """Return whether this is the given line or release; without one, it is."""
        return f"{self.airflow}.".startswith(part and f"{part}.")


LINES = (
    Line("2.11.2", "2026-03-15T00:00:00Z", ("3.11", "3.12")),
    Line("3.0.6", "2025-08-30T00:00:00Z", ("3.11", "3.12"), ("apache-airflow-providers-fab",)),
    Line("3.1.8", "2026-03-12T00:00:00Z"),
    Line("3.2.2", "2026-05-30T00:00:00Z"),
    Line("3.3.2", "2026-09-18T00:00:00Z"),
    # uv accepts pre-releases only where a requirement names one: of Airflow's own packages, which this pin selects.
    Line("3.4.0b2", "2026-10-21T00:00:00Z", downgraded=("multidict",)),
)


class StepFailed(Exception):
    """A step of a cell failed; see its log."""


@dataclass
class Cell:
    """One Airflow on one Python, and its results."""

    line: Line
    python: str
    left_out: frozenset[str] = frozenset()
    results: dict[str, str] = field(default_factory=dict)
    unavailable: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The name in the table and of the folder."""
        return f"airflow-{self.line.airflow}-python-{self.python}"

    @property
    def title(self) -> str:
        """The name in the output."""
        return f"Airflow {self.line.airflow} on Python {self.python}"

    @property
    def failed(self) -> bool:
        """Whether a step failed."""
        return "FAILED" in self.results.values()

    @property
    def folder(self) -> Path:
        """The folder of its environment and logs."""
        return BUILD / self.name

    @property
    def executable(self) -> Path:
        """The Python executable of its environment."""
        return self.folder / "venv" / "bin" / "python"

    def run(self, wheel: Path) -> None:
        """Run the steps that are not left out; if the installation fails, no other step runs."""
        interpreter = find_python(self.python)
        if interpreter is None:
            self.results = dict.fromkeys(STEPS, NO_PYTHON)
            return
        begin = time.monotonic()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if self._run_step("install", lambda: self._install(interpreter, wheel)):
            # The unit tests run at the same time, because a real Airflow mostly waits.
            steps = [step for step, tests in STEPS.items() if tests and step not in self.left_out]
            with ThreadPoolExecutor(1) as executor:
                unit = executor.submit(self._test, "unit") if "unit" in steps else None
                for step in steps:
                    if step != "unit":
                        self._test(step)
                if unit:
                    unit.result()
        self.seconds = time.monotonic() - begin

    def _test(self, step: str) -> None:
        self._run_step(step, lambda: self._pytest(step, STEPS[step]))

    def _run_step(self, step: str, action: Callable[[], str]) -> bool:
        """Run a step and record its result; return whether it succeeded."""
        begin = time.monotonic()
        try:
            self.results[step] = action()
        except StepFailed as failure:
            self.results[step] = "FAILED"
            print(f"{self.title}: {failure}", flush=True)
        print(f"{self.title}: {step}: {self.results[step]}, {time.monotonic() - begin:.0f} s", flush=True)
        return self.results[step] != "FAILED"

    def _install(self, interpreter: str, wheel: Path) -> str:
        """Install Airflow with the wheel, as a user would, and then the test tools."""
        self._call("install", [UV, "venv", "--quiet", "--no-python-downloads", "--python", interpreter, "venv"])
        airflow = f"apache-airflow=={self.line.airflow}"
        self._uv("pip", "install", "--exclude-newer", self.line.until, airflow, *self.line.extra_packages, str(wheel))
        self._uv("pip", "check")
        # The test tools must not change the packages that a user would have.
        pins = self.folder / "installed.txt"
        listed = [line for line in self._uv("pip", "freeze").splitlines() if "==" in line]
        kept = [line for line in listed if line.partition("==")[0] not in self.line.downgraded]
        pins.write_text("\n".join(kept) + "\n")
        self._call("install", [self.executable, "-m", "tests.matrix.import_all"], cwd=TREE)
        self._uv(
            *("pip", "install", "--exclude-newer", self.line.until, "--constraints", str(pins)),
            *(f"airflow-sb-provider[emulator] @ {wheel.as_uri()}", *TOOLS),
        )
        self._uv("pip", "check")
        self._call("install", [self.executable, "-m", "tests.matrix.import_all", "with_optional"], cwd=TREE)
        return "ok"

    def _pytest(self, step: str, path: str) -> str:
        shutil.rmtree(self.folder / f"{step}-files", ignore_errors=True)
        log = self._call(
            step,
            [
                self.executable,
                "-m",
                "pytest",
                "-rA",
                "--durations=5",
                f"--basetemp={self.folder / f'{step}-files'}",
                path,
            ],
            cwd=TREE,
        )
        self.unavailable += re.findall(r"^not offered: (.*)$", log, re.MULTILINE)
        summary = re.search(r"^=+ (.*) in [\d.]+s.*=+$", log, re.MULTILINE)
        counts = {word: count for count, word in re.findall(r"(\d+) (\w+)", summary[1] if summary else "")}
        # Skipped tests are not allowed.
        if not counts.get("passed") or set(counts) - {"passed", "warning", "warnings"}:
            raise StepFailed(f"not all tests passed: {summary[1] if summary else 'no summary'}")
        return f"ok ({counts['passed']})"

    def _uv(self, *arguments: str) -> str:
        return self._call("install", [UV, *arguments[:2], "--python", self.executable, *arguments[2:]])

    def _call(self, step: str, command: Sequence[str | Path], cwd: Path | None = None) -> str:
        """Run a command, append its output to the step's log, and return the output."""
        log = self.folder / f"{step}.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "PYTHON"))}
        with log.open("a+") as output:
            output.write(f"$ {' '.join(map(str, command))}\n")
            output.flush()
            begin = output.tell()  # codespell:ignore tell
            process = subprocess.run(
                [str(part) for part in command],
                cwd=cwd or self.folder,
                env={**clean, "AIRFLOW_HOME": str(self.folder / f"{step}-home")},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
            output.seek(begin)
            text = output.read()
        if process.returncode:
            tail = "\n".join(f"    {line[:200]}" for line in text.splitlines()[-20:])
            raise StepFailed(f"exit status {process.returncode}, see {log.relative_to(ROOT)}. Its end:\n{tail}")
        return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the selected cells and print the table. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dev.matrix", description=__doc__)
    parser.add_argument("--only", metavar="2.11,3.3", help="Airflow lines or releases (default: all)")
    parser.add_argument(
        "--python", metavar="3.11,3.12", help="Python versions (default: all); 'here' is the one that runs this command"
    )
    parser.add_argument(
        "--without",
        metavar="unit:3.3",
        action="append",
        default=[],
        help="leave out a step of an Airflow line or release",
    )
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="cells that run at the same time (default: 1)")
    parser.add_argument("--list", action="store_true", help="list the cells and run nothing")
    options = parser.parse_args(arguments)
    pythons = (options.python or ",".join(PYTHONS)).replace("here", HERE).split(",")
    selected = options.only.split(",") if options.only else [""]
    chosen = [line for line in LINES if any(line.matches(part) for part in selected)]
    cells = [Cell(line, python) for line in chosen for python in line.pythons if python in pythons]
    for line in chosen:
        if not any(cell.line is line for cell in cells):
            print(f"Airflow {line.airflow} does not support Python {', '.join(pythons)}: no cell.", flush=True)
    if not cells:
        parser.error(f"no cell matches --only {options.only} --python {options.python}; see --list")
    for step, _, part in (each.partition(":") for each in options.without):
        found = [cell for cell in cells if part and cell.line.matches(part)]
        if not found or not STEPS.get(step):
            parser.error(f"--without {step}:{part} is no step of a cell; steps are {', '.join(list(STEPS)[1:])}")
        for cell in found:
            cell.left_out |= {step}
    if options.list:
        for cell in cells:
            where = find_python(cell.python) or NO_PYTHON
            print(
                f"Airflow {cell.line.airflow:8} Python {cell.python:6} packages until {cell.line.until[:10]}  {where}"
            )
        return 0
    wheel = prepare()
    with ThreadPoolExecutor(options.jobs) as executor:
        list(executor.map(lambda cell: cell.run(wheel), cells))
    print("\n".join(["", *table(cells)]))
    ran = [cell for cell in cells if cell.seconds]
    return 1 if any(cell.failed for cell in cells) or not ran else 0


def prepare() -> Path:
    """Build the wheel, copy the files that the cells need, and return the wheel."""
    dist = BUILD / "dist"
    for folder in (dist, TREE):
        shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", dist], cwd=ROOT, check=True)
    TREE.mkdir(parents=True)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, TREE / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, TREE / name)
    (wheel,) = dist.glob("*.whl")
    return wheel


def find_python(version: str) -> str | None:
    """Return a Python of this version: the current one, one on the PATH, or one of pyenv."""
    if version == HERE:
        return sys.executable
    for path in _pythons(version):
        with_version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        # pyenv has shims also for versions that are not selected.
        if with_version.stdout.startswith(f"Python {version}."):
            return path
    return None


def _pythons(version: str) -> Iterator[str]:
    if found := shutil.which(f"python{version}"):
        yield found
    if pyenv := shutil.which("pyenv"):
        prefix = subprocess.run([pyenv, "prefix", version], capture_output=True, text=True, check=False).stdout.strip()
        if prefix:
            yield f"{prefix}/bin/python"


def table(cells: Sequence[Cell]) -> list[str]:
    """Return the lines of the table and of the features that an Airflow does not offer."""
    head = ["Airflow", "Python", *STEPS, "seconds"]
    rows = [
        [cell.line.airflow, cell.python, *(cell.results.get(step, "-") for step in STEPS), f"{cell.seconds:.0f}"]
        for cell in cells
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]
    unavailable: dict[str, list[str]] = {}
    for cell in cells:
        for feature in cell.unavailable:
            unavailable.setdefault(feature, []).append(f"{cell.line.airflow} on {cell.python}")
    return [
        *lines,
        "",
        *(f"Not offered by {', '.join(dict.fromkeys(where))}: {feature}" for feature, where in unavailable.items()),
    ]


if __name__ == "__main__":
    sys.exit(main())
