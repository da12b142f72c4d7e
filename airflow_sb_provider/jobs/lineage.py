"""What a task has read and made, as asset events and hook lineage need it, whatever the kind of its jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Made(Protocol):
    """An object or a file that a task has made; ``uri`` is None if its address is unknown."""

    @property
    def uri(self) -> str | None:
        """Its address."""

    def to_extra(self) -> dict[str, Any]:
        """Return the extra of its asset event, which must be flat on Airflow 2.11."""


class LineageReport(Protocol):
    """What a task has read and made."""

    items: ClassVar[str]
    """The key of all that was made, in the extra of an event that stands for many."""

    @property
    def many(self) -> bool:
        """Whether the task makes any number of objects."""

    @property
    def manifest(self) -> str | None:
        """The address of the list of all."""

    @property
    def inputs(self) -> Sequence[str]:
        """The ids of the files that were read."""

    @property
    def outputs(self) -> Sequence[Made]:
        """What was made."""

    @property
    def without_address(self) -> Sequence[str]:
        """Where objects are whose address is unknown."""

    @property
    def announced(self) -> Sequence[Made]:
        """The part of ``outputs`` for which asset events are emitted."""

    @property
    def announced_total(self) -> int:
        """For how many asset events would be emitted without a limit."""

    def to_extra(self) -> dict[str, Any]:
        """Return the extra of an outlet that stands for the task."""
