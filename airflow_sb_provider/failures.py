"""Convert this provider's errors to Airflow's, with the cause chained."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_sb_provider._compat import AirflowException, AirflowFailException, AirflowNotFoundException
from airflow_sb_provider.exceptions import SevenBridgesError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def airflow_failures() -> Iterator[None]:
    """Raise permanent errors as ``AirflowFailException``, the others as ``AirflowException``.

    The exception is also an instance of the error's own class, so that a rule of a retry policy can name it.
    """
    try:
        yield
    except SevenBridgesError as error:
        if isinstance(error, AirflowException):
            raise
        raise airflow_failure(error, final=error.permanent) from error
    except AirflowNotFoundException as error:
        raise AirflowFailException(f"{error} Create it, or name another in 'sevenbridges_conn_id'.") from error


def airflow_failure(error: SevenBridgesError, *, final: bool) -> AirflowException:
    """Return an error as Airflow's, with the same text and attributes.

    :param final: whether Airflow should not retry the task.
    """
    return _restore(AirflowFailException if final else AirflowException, type(error), error.args, vars(error))


@cache
def _both(airflow: type[AirflowException], ours: type[SevenBridgesError]) -> type[AirflowException]:
    def reduce(self: Exception) -> tuple[Callable[..., AirflowException], tuple[object, ...]]:
        # A class that is in no module cannot be pickled by its name.
        return _restore, (airflow, ours, self.args, vars(self))

    def text(self: SevenBridgesError) -> str:
        return f"{ours.__str__(self)} {self.outstanding}".rstrip()

    members = {"__module__": ours.__module__, "__reduce__": reduce, "__str__": text}
    return type(ours.__name__, (airflow, ours), members)


def _restore(
    airflow: type[AirflowException], ours: type[SevenBridgesError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> AirflowException:
    # Not by `__init__`, whose parameters differ between classes.
    # mypy treats exception classes as unhashable.
    failure: AirflowException = Exception.__new__(_both(airflow, ours))  # type: ignore[arg-type]
    failure.args = args
    vars(failure).update(attributes)
    return failure
