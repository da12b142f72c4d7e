"""The hook's methods for tasks and apps."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_sb_provider.api import calls
from airflow_sb_provider.exceptions import SevenBridgesError, SevenBridgesNotFoundError
from airflow_sb_provider.inputs import read_ids
from airflow_sb_provider.tasks.request import TaskRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.api.models import Page
    from airflow_sb_provider.api.task import App, Task
    from airflow_sb_provider.exceptions import SevenBridgesApiError

    T = TypeVar("T")


class TaskMethods:
    """Create, run and read tasks. A task is one run of an app."""

    if TYPE_CHECKING:
        log: Any

        def send(self, call: Call[T], *, retry: bool = True) -> T:
            """Send a call; `SevenBridgesHook` has it."""

        def fetch_each(
            self, ids: Sequence[str], call: Callable[[Sequence[str]], Call[Any]], *, retry: bool = True
        ) -> Any:
            """Fetch many by id; `SevenBridgesHook` has it."""

        def iterate(self, page_at: Callable[[int], Call[Page[Any]]]) -> Iterator[Any]:
            """Yield the items of a list; `SevenBridgesHook` has it."""

    def create_task(
        self, app: str, project: str, inputs: Mapping[str, Any] | None = None, *, name: str = "", **options: Any
    ) -> Task:
        """Create a draft, which costs nothing until `run_task` starts it.

        :param app: ``owner/project/app`` or ``owner/project/app/revision``.
        :param project: ``owner/name``.
        :param inputs: by port; files as ``{"class": "File", "path": id}``.
        :param options: ``description``, ``execution_settings``, ``use_interruptible_instances``, ``batch_by``,
            ``batch_input``, ``output_location``, as for `SevenBridgesTaskOperator`.
        :returns: the draft; ``errors`` names what prevents its start.
        :raises SevenBridgesReplyLost: if the draft may have been created.
        """
        request = TaskRequest.checked(app=app, project=project, inputs=inputs, name=name, **options)
        return self.send(calls.create_task(request.body(request.inputs)))

    def run_task(self, task_id: str) -> Task:
        """Start a draft. The Platform starts each draft once, so this is safe to repeat.

        :raises SevenBridgesApiError: if the task is no draft (7007, 7010), or its inputs are not valid (7024).
        """
        return self.send(calls.run_task(task_id))

    def abort_task(self, task_id: str) -> Task:
        """Stop a task.

        :raises SevenBridgesApiError: if it has ended (7008, 7011).
        """
        return self.send(calls.abort_task(task_id))

    def get_task(self, task_id: str) -> Task:
        """Return a task with its inputs and outputs; a failed one has an ``error``."""
        return self.send(calls.get_task(task_id))

    def get_tasks(self, task_ids: Sequence[str], *, retry: bool = True) -> list[Task | SevenBridgesApiError]:
        """Return the task, without inputs and outputs, or the error for each id, in order; a request per hundred.

        :param retry: as for `send`.
        """
        tasks: list[Task | SevenBridgesApiError] = self.fetch_each(
            read_ids(task_ids, "task_ids"), calls.get_tasks, retry=retry
        )
        return tasks

    def list_tasks(self, project: str, *, parent: str | None = None, limit: int | None = None) -> list[Task]:
        """Return the tasks of a project, newest first.

        :param parent: only the tasks of this batch.
        :param limit: the maximum number; None for all, with one request per hundred.
        """
        pages = self.iterate(lambda offset: calls.list_tasks(project, parent=parent, offset=offset))
        return list(islice(pages, limit))

    def delete_draft(self, task_id: str) -> bool:
        """Delete a draft, and return whether it exists no longer; an error is only logged."""
        try:
            self.send(calls.delete_task(task_id))
        except SevenBridgesNotFoundError:
            # The response to an earlier attempt was lost, or somebody else has deleted it.
            return True
        except SevenBridgesError as error:
            self.log.warning("The draft %s could not be deleted: %s", task_id, error)
            return False
        return True

    def get_app(self, app: str) -> App:
        """Return an app and its input ports.

        :param app: ``owner/project/app`` for the newest revision, or ``owner/project/app/revision``.
        """
        return self.send(calls.get_app(app))
