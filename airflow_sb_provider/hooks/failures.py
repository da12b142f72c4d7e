"""Turn this provider's errors into Airflow's, with the cause chained."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_sb_provider._compat import AirflowException, AirflowFailException, AirflowNotFoundException
from airflow_sb_provider.exceptions import SevenBridgesError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def airflow_failures() -> Iterator[None]:
    """Raise what cannot get better by a retry as ``AirflowFailException``, the rest as ``AirflowException``."""
    try:
        yield
    except SevenBridgesError as error:
        kind = AirflowFailException if error.permanent else AirflowException
        raise kind(str(error)) from error
    except AirflowNotFoundException as error:
        raise AirflowFailException(f"{error} Make it, or name another in 'sevenbridges_conn_id'.") from error
