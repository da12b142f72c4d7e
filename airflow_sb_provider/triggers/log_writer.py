"""Write the log lines of triggers in a thread, each into the log of its own trigger."""

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

    _Entry = tuple[contextvars.Context, _Logger, Sequence[str]]


class LogWriter:
    """One thread for all triggers of a process, which writes lines in the order of `write`.

    Airflow's supervisor may read log lines slowly, and on the event loop every trigger would wait for it. A thread-pool
    task per line would burden the garbage collector when the jobs of thousands of triggers change state together.
    """

    def __init__(self) -> None:
        self._entries: SimpleQueue[_Entry] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def write(self, context: contextvars.Context, logger: _Logger, lines: Sequence[str]) -> None:
        """Queue lines for the log.

        :param context: a copy of the trigger's context, which selects its log; only this thread may enter it.
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
                # A line that cannot be written must not stop the lines of other triggers.
                with suppress(Exception):
                    context.run(logger.info, line)


log_writer = LogWriter()
