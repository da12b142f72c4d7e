"""Airflow's hook lineage, which not every Airflow collects and which is called differently in each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_sb_provider._compat import BaseHook


def hook_lineage_is_read() -> bool:
    """Return whether anything reads hook lineage, such as OpenLineage.

    Where nothing does, Airflow 3 would still import every provider's assets to collect it.
    """
    try:
        from airflow.sdk.plugins_manager import get_hook_lineage_readers_plugins
    except ImportError:
        plugins: Any = import_module("airflow.plugins_manager")
        plugins.initialize_hook_lineage_readers_plugins()
        return bool(plugins.hook_lineage_reader_classes)
    return bool(get_hook_lineage_readers_plugins())


def collect_hook_lineage(hook: BaseHook, inputs: Iterable[str], outputs: Iterable[str]) -> None:
    """Report to those who read hook lineage what a hook has read and written, by URI."""
    if not hook_lineage_is_read():
        return
    try:
        lineage: Any = import_module("airflow.sdk.lineage")
    except ImportError:
        lineage = import_module("airflow.lineage.hook")
    collector = lineage.get_hook_lineage_collector()
    kind = "asset" if hasattr(collector, "add_input_asset") else "dataset"
    for uri in inputs:
        getattr(collector, f"add_input_{kind}")(context=hook, uri=uri)
    for uri in outputs:
        getattr(collector, f"add_output_{kind}")(context=hook, uri=uri)
