"""The common interface of all jobs of the Platform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pendulum import DateTime

    from airflow_sb_provider.exceptions import SevenBridgesApiError


class Job(Protocol):
    """A job of the Platform, of any kind.

    ``state`` is the Platform's word in capitals. ``error`` is set if the job failed. Times are None if the Platform
    does not give them.
    """

    @property
    def id(self) -> str:
        """The Platform's id."""

    @property
    def state(self) -> str:
        """Its state."""

    @property
    def started_on(self) -> DateTime | None:
        """When it was created."""

    @property
    def finished_on(self) -> DateTime | None:
        """When it reached its last state."""

    @property
    def error(self) -> SevenBridgesApiError | None:
        """Why it failed."""

    @property
    def ended(self) -> bool:
        """Whether its state is terminal."""

    @property
    def succeeded(self) -> bool:
        """Whether it completed successfully."""

    @property
    def failed(self) -> bool:
        """Whether its state is terminal without success."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values, small enough for a trigger's event."""
