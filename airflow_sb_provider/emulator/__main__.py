"""`python -m airflow_sb_provider.emulator`: runs the local Platform until it is interrupted."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_sb_provider.emulator.emulator import Emulator
from airflow_sb_provider.emulator.knobs import Knobs
from airflow_sb_provider.emulator.listing import contents

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. Returns the exit status."""
    options = _parser().parse_args(arguments)
    knobs = Knobs()
    try:
        for setting in options.knob:
            name, _, value = setting.partition("=")
            knobs.update(**{name: value})
    except (AttributeError, ValueError) as error:
        print(f"--knob {setting}: {error}", file=sys.stderr)
        return 2
    token = options.token
    if options.token_file:
        try:
            token = _token_in(options.token_file)
        except (OSError, ValueError) as error:
            print(f"--token-file {options.token_file}: {error}", file=sys.stderr)
            return 2
    # Block the signals before any thread starts, so that only sigwait receives them.
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        emulator = Emulator(
            host=options.host,
            port=options.port,
            token=token,
            storage=options.storage,
            storage_endpoint=options.storage_endpoint,
            seeded=options.seed,
            knobs=knobs,
        )
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        emulator.start()
    except OSError as error:
        print(f"cannot listen on {options.host}:{options.port}: {error}", file=sys.stderr)
        emulator.stop()
        return 1
    print(_summary(emulator), flush=True)
    signal.sigwait(signals)
    emulator.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    knobs = "\n".join(f"  {name}: {text}" for name, text in Knobs.descriptions().items())
    parser = argparse.ArgumentParser(
        prog="python -m airflow_sb_provider.emulator",
        description="A local Seven Bridges Platform, to try exports and tasks without an account.",
        epilog=f"knobs:\n{knobs}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    tokens = parser.add_mutually_exclusive_group()
    tokens.add_argument("--token", help="the user's token; other users can see it in the list of processes")
    tokens.add_argument(
        "--token-file", metavar="FILE", help="file whose first line is the token, - for stdin (default: a new token)"
    )
    parser.add_argument("--storage", help="folder or fsspec URL where bytes are stored (default: a temporary folder)")
    parser.add_argument("--storage-endpoint", help="URL of an S3-compatible service for --storage s3://bucket")
    parser.add_argument(
        "--seed", action=argparse.BooleanOptionalAction, default=True, help="start with the demo project (default)"
    )
    parser.add_argument(
        "--knob", action="append", default=[], metavar="NAME=VALUE", help="set a knob (see below); repeatable"
    )
    return parser


def _token_in(file: str) -> str:
    """Return the first line of a file, or of stdin for `-`."""
    if file == "-":
        line = sys.stdin.readline()
    else:
        with Path(file).open(encoding="utf-8") as stream:
            line = stream.readline()
            if os.fstat(stream.fileno()).st_mode & 0o077:
                print(f"--token-file {file}: other users can read this file; run chmod 600 {file}", file=sys.stderr)
    if not line.strip():
        raise ValueError("the first line is empty; write the token there")
    return line.strip()


def _summary(emulator: Emulator) -> str:
    platform = emulator.platform
    note = " (removed when this stops)" if platform.storage.is_temporary else ""
    text = f"""\
        Local Seven Bridges Platform: {emulator.url}
        export AIRFLOW_CONN_SEVENBRIDGES_DEFAULT={shlex.quote(emulator.connection_json())}
        Bytes: {platform.storage.url}{note}
        """
    lines = [textwrap.dedent(text).rstrip()]
    if variables := emulator.s3_environment():
        lines += [
            "For tasks that open s3:// objects:",
            *(f"export {name}={value}" for name, value in variables.items()),
        ]
    return "\n".join([*lines, *contents(emulator), "Stop with Ctrl-C."])


if __name__ == "__main__":
    sys.exit(main())
