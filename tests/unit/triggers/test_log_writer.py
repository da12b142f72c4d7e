from __future__ import annotations

import asyncio
import contextvars
import threading
from types import SimpleNamespace

from airflow_sb_provider.triggers.log_writer import LogWriter

owner = contextvars.ContextVar[str]("owner")


def test_each_line_is_written_in_the_context_of_its_own_trigger_and_in_order():
    writer, written, all_written = LogWriter(), [], threading.Event()

    def log(line: str) -> None:
        written.append((owner.get(), line))
        if len(written) == 6:
            all_written.set()

    async def trigger(name: str) -> None:
        owner.set(name)
        writer.write(contextvars.copy_context(), SimpleNamespace(info=log), ["one", "two"])
        await asyncio.sleep(0)
        writer.write(contextvars.copy_context(), SimpleNamespace(info=log), ["three"])

    async def both() -> None:
        await asyncio.gather(trigger("a"), trigger("b"))

    asyncio.run(both())

    assert all_written.wait(10)
    for name in "ab":
        assert [line for of, line in written if of == name] == ["one", "two", "three"]


def test_a_blocked_log_does_not_block_the_writer():
    writer, may_continue, written = LogWriter(), threading.Event(), threading.Event()

    def log(line: str) -> None:
        assert may_continue.wait(10)
        written.set()

    writer.write(contextvars.copy_context(), SimpleNamespace(info=log), ["line"])

    assert not written.is_set()
    may_continue.set()
    assert written.wait(10)


def test_a_log_that_raises_does_not_stop_the_lines_of_others():
    writer, written = LogWriter(), threading.Event()

    def broken(line: str) -> None:
        raise OSError("the pipe is gone")

    writer.write(contextvars.copy_context(), SimpleNamespace(info=broken), ["lost"])
    writer.write(contextvars.copy_context(), SimpleNamespace(info=lambda line: written.set()), ["kept"])

    assert written.wait(10)
