"""Airflow's hook lineage, whose API differs between Airflow versions."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_sb_provider._compat import BaseHook


def hook_lineage_is_read() -> bool:
    """Whether a plugin, such as OpenLineage, reads hook lineage.

    If none does, collecting is useless, but Airflow 3 would still import the assets of every provider for it.
    """
    try:
        from airflow.sdk.plugins_manager import get_hook_lineage_readers_plugins
    except ImportError:
        plugins: Any = import_module("airflow.plugins_manager")
        plugins.initialize_hook_lineage_readers_plugins()
        return bool(plugins.hook_lineage_reader_classes)
    return bool(get_hook_lineage_readers_plugins())


def collect_hook_lineage(hook: BaseHook, inputs: Iterable[str], outputs: Iterable[str]) -> None:
    """Add the URIs that a hook has read and written to Airflow's hook lineage."""
    if not hook_lineage_is_read():
        return
    try:
        lineage: Any = import_module("airflow.sdk.lineage")
    except ImportError:
        lineage = import_module("airflow.lineage.hook")
    collector = lineage.get_hook_lineage_collector()
    noun = "asset" if hasattr(collector, "add_input_asset") else "dataset"
    for uri in inputs:
        getattr(collector, f"add_input_{noun}")(context=hook, uri=uri)
    for uri in outputs:
        getattr(collector, f"add_output_{noun}")(context=hook, uri=uri)
