"""Emit asset events and hook lineage for exported objects and for the outputs of apps."""

from __future__ import annotations

import logging
import os.path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_sb_provider._compat import BATCHES_ASSET_EVENTS, Asset, AssetAlias
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exports.outcome import MAX_REPORTED, namespace
from airflow_sb_provider.lineage.hook import collect_hook_lineage, hook_lineage_is_read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider._compat import Context
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
    from airflow_sb_provider.jobs.lineage import LineageReport, Made

log = logging.getLogger(__name__)

# Airflow interprets ? and # in an asset's URI as a query and a fragment; MySQL stores only plain ASCII.
_KEPT = "".join(chr(code) for code in range(ord(" "), 127) if chr(code) not in "%?#")


def asset_uri(uri: str) -> str:
    """Return an object's URI as an asset's URI: ``%``, ``?``, ``#`` and non-ASCII characters are percent-encoded."""
    return quote(uri, safe=_KEPT)


def emit_asset_events(
    context: Context, outlets: Sequence[object], hook: SevenBridgesHook, report: LineageReport
) -> None:
    """Emit asset events and hook lineage for what a task has made; objects with an unknown URI are only logged.

    :param context: the task's context, from which Airflow reads the events when the task succeeds.
    :param outlets: the task's outlets.
    :param hook: the hook that made them, for hook lineage.
    """
    unknown = report.without_address
    if unknown and (outlets or hook_lineage_is_read()):
        log.info(
            "No asset events or lineage for the exported objects on %s: their URIs are unknown.",
            readable(", ".join(unknown), 1500),
        )
    if outlets:
        _add_events(context, outlets, [made for made in report.announced if made.uri], report)
    platform = namespace(hook.settings.endpoint)
    try:
        collect_hook_lineage(
            hook,
            [f"{platform}/{file}" for file in report.inputs[:MAX_REPORTED]],
            [asset_uri(made.uri) for made in report.outputs[:MAX_REPORTED] if made.uri],
        )
    except Exception as error:
        log.warning("Could not collect hook lineage: %s", error)


def _add_events(context: Context, outlets: Sequence[object], known: Sequence[Made], report: LineageReport) -> None:
    events: list[tuple[str | None, dict[str, Any]]] = [(made.uri, made.to_extra()) for made in known[:MAX_REPORTED]]
    if report.manifest and known:
        events.append((report.manifest, report.to_extra()))
    if len(events) > 1 and not BATCHES_ASSET_EVENTS:
        # Each event would start a run of its own of every DAG that is scheduled on the alias.
        extra = {**report.to_extra(), report.items: [made.to_extra() for made in known[:MAX_REPORTED]]}
        events = [(report.manifest or _folder(known), extra)]
    if report.announced_total > MAX_REPORTED:
        log.info("Asset events are emitted for the first %d of %d objects.", MAX_REPORTED, report.announced_total)
    assets = [(asset, extra) for uri, extra in events if uri and (asset := _asset(uri))]
    accessors = context["outlet_events"]
    for alias in {outlet.name: outlet for outlet in outlets if isinstance(outlet, AssetAlias)}.values():
        for asset, extra in assets:
            accessors[alias].add(asset, extra=extra)
    if known or report.many:
        for outlet in outlets:
            if isinstance(outlet, Asset):
                accessors[outlet].extra.update(report.to_extra())


def _folder(known: Sequence[Made]) -> str:
    """Return the deepest folder of all objects; the first object's address if they have none in common."""
    uris = [made.uri or "" for made in known]
    folder, slash, _ = os.path.commonprefix(uris).rpartition("/")  # noqa: RUF071 - cut at a slash
    return f"{folder}{slash}" if folder.partition("://")[2] else uris[0]


def _asset(uri: str) -> Asset | None:
    try:
        return Asset(uri=asset_uri(uri))
    except ValueError as error:
        log.warning(
            "No asset event for %s: Airflow rejects its URI: %s",
            readable(uri, 1500),
            readable(str(error), 1500),
        )
        return None
