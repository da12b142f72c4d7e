"""The operator that runs an app."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_sb_provider._compat import BASE_URL_SECTION, conf
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.api.times import in_words
from airflow_sb_provider.engine.task_policy import TaskPolicy
from airflow_sb_provider.engine.task_result import failed_children, read_outcome
from airflow_sb_provider.exceptions import (
    SevenBridgesError,
    SevenBridgesInDoubt,
    SevenBridgesInputError,
    SevenBridgesTaskFailed,
    SevenBridgesTaskRefused,
    SevenBridgesTaskTimeout,
)
from airflow_sb_provider.exports.outcome import namespace
from airflow_sb_provider.failures import airflow_failure
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.inputs import Problems, check_seconds, first_problems, read_boolean, read_switches
from airflow_sb_provider.jobs.progress import status_of_job
from airflow_sb_provider.jobs.watch import DEFAULT_TIMEOUT, POLL_INTERVAL
from airflow_sb_provider.links.task import SevenBridgesAppLink, SevenBridgesTaskLink
from airflow_sb_provider.links.urls import app_page, task_page
from airflow_sb_provider.operators.base import SevenBridgesOperator
from airflow_sb_provider.tasks.kind import TASK, price_of
from airflow_sb_provider.tasks.outcome import TaskOutcome, TaskReport
from airflow_sb_provider.tasks.ports import SevenBridgesFile, SevenBridgesFolder
from airflow_sb_provider.tasks.request import TaskRequest, wish_key
from airflow_sb_provider.tasks.tracked import TrackedTask
from airflow_sb_provider.triggers.task import SevenBridgesTaskTrigger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_sb_provider._compat import BaseOperatorLink, Context
    from airflow_sb_provider.api.task import Task
    from airflow_sb_provider.jobs.batch import Batch

__all__ = ["SevenBridgesFile", "SevenBridgesFolder", "SevenBridgesTaskOperator"]

_REQUEST_FIELDS = (
    *("app", "project", "name", "inputs", "description", "execution_settings", "use_interruptible_instances"),
    *("batch_by", "batch_input", "output_location"),
)
_CHILDREN_SHOWN = 10


class SevenBridgesTaskOperator(SevenBridgesOperator[TrackedTask]):
    """Run an app: create a task of the Platform, start it, and wait for its end.

    Returns a plain dict: ``task_id``, ``name``, ``status``, ``app``, ``project``, ``outputs`` (by port, with file
    ids), ``output_files`` (dicts with ``id``, ``name``, ``size`` in bytes, ``port`` and ``index_files``),
    ``file_ids`` (of all these files, for `SevenBridgesBulkExportOperator`), ``price`` (``amount`` and ``currency``),
    ``started_on``, ``finished_on``, ``adopted``, ``url``, ``batch`` (the number of tasks by state) and ``children``.
    The operator pushes the XCom ``task_id`` as soon as the task exists on the Platform.

    .. note:: A task costs money. The operator creates a draft, records its id, and then starts it; the Platform starts
        each draft only once. A retry adopts the task of the earlier try if it is queued, running or completed, and runs
        the app in a new task if it failed or was aborted. If you clear the Airflow task after its task has completed,
        the app runs again.

    .. seealso:: `Create a new task <https://docs.sevenbridges.com/reference/create-a-new-task>`__

    :param app: ID of the app, ``owner/project/app`` or, for one revision, ``owner/project/app/revision``. (templated)
    :param project: ID of the project in which the task runs, ``owner/name``. (templated)
    :param inputs: the value of each input port. Give a file by its ID, as `SevenBridgesFile`, or as
        ``{"class": "File", "path": id}``. Text is converted to the port's type. (templated)
    :param name: name of the task; by default the task, DAG and run of Airflow. (templated)
    :param description: text for the task's page. The operator adds a line with a key, by which a retry finds the task.
        (templated)
    :param execution_settings: ``instance_type``, ``max_parallel_instances``, ``use_memoization``,
        ``use_elastic_disk``. (templated)
    :param use_interruptible_instances: whether to use cheaper instances that the cloud may stop. (templated)
    :param batch_by: makes a batch: ``item`` for one task for each file of ``batch_input``, or a list such as
        ``["metadata.sample_id"]`` for one task for each value. (templated)
    :param batch_input: the port with the list of files to batch. (templated)
    :param output_location: where the outputs are put, as the API's mapping or its ``main_location``. (templated)
    :param validate_only: whether to return the errors and warnings of the Platform's validation, without running
        anything. (templated)
    :param sevenbridges_conn_id: ID of the Airflow connection. (templated)
    :param on_error: for a batch of which some tasks failed: ``fail_at_end`` fails, ``report`` returns the result.
    :param wait_for_completion: whether to wait for the task. If false, use a sensor to wait.
    :param deferrable: whether to wait in the triggerer, without a worker slot.
    :param poll_interval: seconds between two polls of the task.
    :param timeout: seconds from the start, across retries, after which the Airflow task fails; None for no limit. The
        task continues on the Platform.
    :param on_kill_abort: whether to abort the task when the Airflow task is killed or cleared, and, from Airflow 3.3
        on, when it is marked while it is deferred.
    """

    template_fields: Sequence[str] = (*_REQUEST_FIELDS, "validate_only", "sevenbridges_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "inputs": "json",
        "execution_settings": "json",
        "output_location": "json",
    }
    operator_extra_links: Sequence[BaseOperatorLink] = (SevenBridgesTaskLink(), SevenBridgesAppLink())
    status_kind = "task"
    entry_class = TrackedTask
    trigger_class = SevenBridgesTaskTrigger
    single = True
    _report: TaskReport | None = None

    def __init__(
        self,
        *,
        app: str,
        project: str,
        inputs: Mapping[str, Any] | str | None = None,
        name: str | None = None,
        description: str | None = None,
        execution_settings: Mapping[str, Any] | str | None = None,
        use_interruptible_instances: bool | str | None = None,
        batch_by: str | Sequence[str] | Mapping[str, Any] | None = None,
        batch_input: str | None = None,
        output_location: Mapping[str, Any] | str | None = None,
        validate_only: bool | str = False,
        sevenbridges_conn_id: str = SevenBridgesHook.default_conn_name,
        on_error: Literal["fail_at_end", "report"] = "fail_at_end",
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = POLL_INTERVAL,
        timeout: float | None = DEFAULT_TIMEOUT,
        on_kill_abort: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.app = app
        self.project = project
        self.inputs = inputs
        self.name = name
        self.description = description
        self.execution_settings = execution_settings
        self.use_interruptible_instances = use_interruptible_instances
        self.batch_by = batch_by
        self.batch_input = batch_input
        self.output_location = output_location
        self.validate_only = validate_only
        self.sevenbridges_conn_id = sevenbridges_conn_id
        self.on_error = on_error
        self.wait_for_completion, self.deferrable, self.on_kill_abort = read_switches(
            wait_for_completion=wait_for_completion, deferrable=deferrable, on_kill_abort=on_kill_abort
        )
        self.poll_interval = poll_interval
        self.timeout = timeout
        if on_error not in ("fail_at_end", "report"):
            raise SevenBridgesInputError(f"on_error: {on_error!r} is not a valid value; use fail_at_end or report.")
        check_seconds(poll_interval=poll_interval, timeout=timeout)

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the app, or adopt the task of an earlier try."""
        with self._reporting(context):
            request, validate_only = self._checked(context)
            self._report = None
            self._status.stage(app=request.app, project=request.project, name=request.name)
            self._has_store = context.get("task_state_store") is not None
            if validate_only:
                return self._validate(request)
            self.log.info("Requested: %s.", request)
            return self._submit(context, [TrackedTask(request)])

    def resume(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Resume after a trigger has fired; Airflow calls it."""
        self._has_store = context.get("task_state_store") is not None
        return super().resume(context, event)

    def on_kill(self) -> None:
        """Abort the task on the Platform if ``on_kill_abort`` is set, also a draft that may just be starting."""
        for entry in self._under_way.in_flight if self._under_way else []:
            task_id = entry.job_id or ""
            if not self.on_kill_abort:
                self.log.warning("The Airflow task is stopped; task %s continues on the Platform.", task_id)
                continue
            try:
                self.hook.abort_task(task_id)
            except SevenBridgesError as error:
                self.log.warning("Task %s could not be aborted, so it may continue: %s", task_id, error)
            else:
                self.log.info("The Airflow task is stopped, so task %s is aborted.", task_id)

    def _policy(self) -> TaskPolicy:
        return TaskPolicy(self.hook, has_store=self._has_store, aborts_cleared=self.on_kill_abort)

    @property
    def _trigger_options(self) -> dict[str, Any]:
        return {"on_kill_abort": self.on_kill_abort}

    def _checked(self, context: Context) -> tuple[TaskRequest, bool]:
        problems = Problems()
        values = {name: getattr(self, name) for name in _REQUEST_FIELDS}
        request = problems.read("", lambda values: TaskRequest.checked(**values), values, None)
        validate_only = problems.read("validate_only", read_boolean, self.validate_only, False)
        problems.texts += self._connection_problems()
        problems.raise_if_any()
        assert request is not None
        ti = context["ti"]
        # Another Airflow with the same DAG, such as a staging one, has another address.
        address = conf.get(BASE_URL_SECTION, "base_url", fallback="")
        key = wish_key(address, ti.dag_id, ti.run_id, ti.task_id, ti.map_index, request.fingerprint)
        name = request.name or f"{ti.task_id} ({ti.dag_id}, {ti.run_id})"
        return replace(request, name=readable(name, 200), key=key, generation=ti.max_tries), validate_only

    def _validate(self, request: TaskRequest) -> dict[str, Any]:
        """Return what the Platform's validation found; nothing runs."""
        draft = self._policy().validate(request)
        for warning in draft.warnings:
            self.log.warning("%s", warning)
        if draft.errors:
            raise SevenBridgesTaskRefused(f"The {request} cannot run:", first_problems(list(draft.errors)))
        self.log.info("Dry run: the %s is valid. Its draft was deleted; nothing runs.", request)
        self._status.publish(state="DRY_RUN")
        return {
            "validate_only": True,
            "app": request.app,
            "project": request.project,
            "name": request.name,
            "inputs": dict(draft.inputs) or dict(request.inputs),
            "warnings": list(draft.warnings),
        }

    def _submitted(self, context: Context, batch: Batch[TrackedTask]) -> None:
        [entry] = batch.entries
        if entry.why:
            self._status.stage(why=entry.why)
        if entry.job:
            context["ti"].xcom_push(key="task_id", value=entry.job_id)

    def _show_progress(self, batch: Batch[TrackedTask]) -> None:
        [entry] = batch.entries
        if entry.job and entry.in_flight:
            self._show(entry, entry.job)

    def _show(self, entry: TrackedTask, task: Task, **more: Any) -> None:
        request, endpoint = entry.request, self.hook.settings.endpoint
        pages = task_page(endpoint, request.project, task.id), app_page(endpoint, request.app)
        self._status.publish_links(dict(zip((SevenBridgesTaskLink, SevenBridgesAppLink), pages, strict=True)))
        self._status.publish(
            **status_of_job(TASK, task),
            app=task.app or request.app,
            name=task.name or request.name,
            adopted=entry.adopted,
            page=pages[0],
            app_page=pages[1],
            **more,
        )

    def _is_over(self, batch: Batch[TrackedTask]) -> bool:
        return super()._is_over(batch) or (not self.wait_for_completion and not batch.waiting)

    def _started_at(self, batch: Batch[TrackedTask]) -> float:
        [entry] = batch.entries
        if entry.record and entry.job_id == entry.own_id:
            return entry.record.sent_at
        return batch.started_at

    def _finish(self, context: Context, batch: Batch[TrackedTask], timed_out: bool) -> dict[str, Any]:
        [entry] = batch.entries
        if timed_out:
            raise SevenBridgesTaskTimeout(
                f"Task {entry.job_id} is {entry.state} at the end of the time to wait for it (timeout={self.timeout} "
                "seconds).",
                remedy="It continues on the Platform. To wait for it again, increase timeout and clear the task.",
            )
        if entry.bad:
            raise entry.error or SevenBridgesInDoubt(entry.message)
        # A process that Airflow took for dead may find in the store what a later try has done.
        task = entry.job or self.hook.get_task(entry.job_id or "")
        page = task_page(self.hook.settings.endpoint, entry.request.project, task.id)
        if not task.ended:
            return TaskOutcome(task=task, adopted=entry.adopted).to_result(page)
        if task.batch and task.failed_children:
            self._show(entry, task)
            self._report_failed_children(task)
        outcome = read_outcome(self.hook, task.id, adopted=entry.adopted)
        self._report = TaskReport(namespace(self.hook.settings.endpoint), outcome)
        result = outcome.to_result(page)
        self._show(entry, task, outputs=len(result["file_ids"]), error=None, check_again_at=None)
        took = (task.finished_on - task.started_on).total_seconds() if task.started_on and task.finished_on else None
        self.log.info(
            "Task %s completed%s with %d output files%s: %s",
            task.id,
            "" if took is None else f" in {in_words(took)}",
            len(result["file_ids"]),
            f", {price_of(task)}" if price_of(task) else "",
            ", ".join(readable(str(item["name"]), 200) for item in result["output_files"][:_CHILDREN_SHOWN]) or "none",
        )
        self._emit_asset_events(context)
        return result

    def _reported(self) -> TaskReport | None:
        if self._report:
            return self._report
        task = self._batch.entries[0].job if self._batch else None
        return TaskReport(namespace(self.hook.settings.endpoint), TaskOutcome(task=task)) if task else None

    def _report_failed_children(self, task: Task) -> None:
        """Log the failed tasks of a batch; fail unless ``on_error`` is ``report``."""
        failed = failed_children(self.hook, task)
        texts = [
            f"{child.id} ({readable(child.name or 'without a name', 200)}) is {child.state}: "
            f"{child.execution.message or 'no reason given'}"
            for child in failed[:_CHILDREN_SHOWN]
        ]
        more = [f"and {len(failed) - _CHILDREN_SHOWN} more."] if len(failed) > _CHILDREN_SHOWN else []
        number = task.failed_children
        what = f"{number} task{'s' if number > 1 else ''} of the batch {task.id} did not complete."
        if self.on_error == "report":
            self.log.warning("%s %s", what, "; ".join([*texts, *more]))
            return
        error = SevenBridgesTaskFailed(
            task,
            " ".join([what, *texts, *more]),
            "To use the outputs of the others, pass its id to SevenBridgesTaskSensor; later, set on_error='report'.",
        )
        # A retry would find the same batch.
        raise airflow_failure(error, final=True) from error
