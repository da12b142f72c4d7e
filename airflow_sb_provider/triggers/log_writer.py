"""Writes the log lines of triggers in a thread, each into the log of its own trigger."""

from __future__ import annotations

import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Sequence
    from typing import Protocol

    class _Logger(Protocol):
        def info(self, line: str, /) -> object: ...

    TrackedExport = tuple[contextvars.Context, _Logger, Sequence[str]]


class LogWriter:
    """One thread for all triggers of a process; lines come out in the order in which they went in.

    Airflow's supervisor may be slow to read what is logged, and on the event loop everything would wait for it. A
    thread's task for each line would be much for the garbage collector when thousands of triggers have news at once.
    """

    def __init__(self) -> None:
        self._entries: SimpleQueue[TrackedExport] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def write(self, context: contextvars.Context, logger: _Logger, lines: Sequence[str]) -> None:
        """Have each line logged soon.

        :param context: a copy of the trigger's, which tells whose log it is; entered by this thread only.
        """
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sevenbridges-log", daemon=True)
                self._thread.start()
        self._entries.put((context, logger, lines))

    def _run(self) -> None:
        while True:
            context, logger, lines = self._entries.get()
            for line in lines:
                # A line that cannot be written must not end the log of all others.
                with suppress(Exception):
                    context.run(logger.info, line)


log_writer = LogWriter()
