"""The scenarios of `make faults` for tasks that run an app."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.faults.kills import Stage, replace

if TYPE_CHECKING:
    from collections.abc import Callable

CREATE, RUN, POLL = "/v2/tasks", "/v2/tasks/*/actions/run", "/v2/bulk/tasks/get"
SOME_SECONDS = 12.0


class AppStage(Stage):
    """A run of a task that runs an app on one file."""

    @property
    def jobs(self) -> list[Any]:
        """The tasks of its file that were started."""
        tasks = list(self.emulator.platform.tasks.values())
        return [task for task in tasks if task.state != "DRAFT" and self._is_own(task.inputs)]

    @property
    def drafts(self) -> list[Any]:
        """The drafts of its file."""
        tasks = list(self.emulator.platform.tasks.values())
        return [task for task in tasks if task.state == "DRAFT" and self._is_own(task.inputs)]

    def submits(self, record: Any) -> bool:
        """Whether a request creates a task of its file."""
        return (record.method, record.path) == ("POST", CREATE) and self._is_own(record.json["inputs"])

    def _is_own(self, inputs: Any) -> bool:
        return any(file in str(inputs) for file in self.files)


@dataclass(frozen=True)
class AppScenario:
    """A scenario, and the states of the tasks that it started, and of the Airflow task at the end."""

    name: str
    play: Callable[[AppStage], None]
    states: tuple[str, ...] = ("COMPLETED",)
    end: str = "success"
    dags: tuple[str, ...] = ("app_deferred", "app_waiting")
    quick: bool = False


def at_the_creation(stage: AppStage) -> None:
    stage.kill_caller("request")
    stage.start()


def after_the_creation(stage: AppStage) -> None:
    stage.kill_caller("accepted", CREATE)
    stage.start()


def between_creation_and_start(stage: AppStage) -> None:
    stage.kill_caller("request", RUN)
    stage.start()


def after_the_start(stage: AppStage) -> None:
    stage.kill_caller("accepted", RUN)
    stage.start()


def at_a_poll(stage: AppStage) -> None:
    stage.emulator.knobs.task_running_seconds = SOME_SECONDS
    stage.kill_caller("request", POLL, after=1)
    stage.start()
    if stage.defers:
        stage.until(lambda: stage.killed, "the triggerer's runner is killed")
        replace(stage, "triggerer")


def response_to_the_creation_lost(stage: AppStage) -> None:
    stage.emulator.trouble("lose_reply", method="POST", path=CREATE)
    stage.start()


def response_to_the_start_lost(stage: AppStage) -> None:
    stage.emulator.trouble("lose_reply", method="POST", path=RUN)
    stage.start()


def cleared_while_it_runs(stage: AppStage) -> None:
    stage.emulator.knobs.task_running_seconds = SOME_SECONDS
    stage.start()
    stage.until_state("deferred")
    stage.until(lambda: stage.jobs and stage.jobs[0].state == "RUNNING", "the task runs")
    stage.clear()
    stage.until_second_try()


def marked_failed_while_it_runs(stage: AppStage) -> None:
    stage.emulator.knobs.task_running_seconds = SOME_SECONDS
    stage.start()
    stage.until_state("deferred")
    stage.until(lambda: stage.jobs and stage.jobs[0].state == "RUNNING", "the task runs")
    stage.mark_failed()
    stage.until(lambda: stage.jobs[0].state == "ABORTED", "the task is aborted")


def cleared_after_success(stage: AppStage) -> None:
    stage.start()
    stage.until_state("success")
    stage.clear()
    stage.until_second_try()


DEFERRED = ("app_deferred",)
APP_SCENARIOS = [
    AppScenario("killed on receiving the creation", at_the_creation),
    AppScenario("killed after the creation, before the reply", after_the_creation),
    AppScenario("killed between creation and start", between_creation_and_start, quick=True),
    AppScenario("killed after the start, before the reply", after_the_start),
    AppScenario("killed at the second poll", at_a_poll),
    AppScenario("reply to the creation lost", response_to_the_creation_lost),
    AppScenario("reply to the start lost", response_to_the_start_lost),
    AppScenario("cleared while it runs", cleared_while_it_runs, ("ABORTED", "COMPLETED"), dags=DEFERRED),
    AppScenario("marked failed while it runs", marked_failed_while_it_runs, ("ABORTED",), "failed", DEFERRED),
    AppScenario("cleared after success", cleared_after_success, ("COMPLETED", "COMPLETED")),
]
