"""The local Platform: a local server with the Seven Bridges API, for demos and tests.

Start it with `python -m airflow_sb_provider.emulator`, or in Python with `Emulator`.
"""

from __future__ import annotations

from airflow_sb_provider.emulator.emulator import Emulator
from airflow_sb_provider.emulator.knobs import Knobs

__all__ = ["Emulator", "Knobs"]
