"""What Airflow reads about this provider, without importing any of it."""

from __future__ import annotations

from typing import Any

from airflow_sb_provider import __version__

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    # Without a port the button "Test" of Airflow 3.3.2 refuses every connection (apache/airflow#73298).
    "hidden-fields": ["schema", "login"],
    "relabeling": {"password": "Authentication token", "host": "API endpoint"},
    "placeholders": {
        "password": "copy it from the Platform's page Developer > Authentication token",
        "host": "empty if you choose an environment under Extra Fields",
        "port": "443 (the Test button of Airflow 3.3 needs it)",
    },
}

CONN_FIELDS: dict[str, Any] = {
    "environment": {
        "label": "Environment",
        "description": "The Platform where you log in: bdc (BioData Catalyst), cgc (Cancer Genomics Cloud), cavatica, "
        "sb-us, sb-eu, sb-cn (Seven Bridges). For another one give its API endpoint above, which goes before this.",
        "schema": {
            "type": ["string", "null"],
            "enum": ["bdc", "cgc", "cavatica", "sb-us", "sb-eu", "sb-cn"],
        },
    },
    "oauth": {
        "label": "OAuth token",
        "description": "The token comes from a single sign-on: it is sent as 'Authorization: Bearer' instead of "
        "'X-SBG-Auth-Token'. Leave it off for a token of the page Developer.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
    "advance_access": {
        "label": "Advance access",
        "description": "Sends the header 'X-SBG-Advance-Access'. Leave it off unless the Platform's support says so.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
    "connect_timeout": {
        "label": "Connect time-out",
        "description": "Seconds to wait for a connection (10 if empty).",
        "schema": {"type": ["number", "null"], "minimum": 0},
    },
    "read_timeout": {
        "label": "Read time-out",
        "description": "Seconds to wait for an answer (60 if empty).",
        "schema": {"type": ["number", "null"], "minimum": 0},
    },
    "gateway_timeout": {
        "label": "Gateway time-out",
        "description": "Seconds after which an export without a response cannot be accepted any more (90 if empty).",
        "schema": {"type": ["number", "null"], "minimum": 0},
    },
    "ca_bundle": {
        "label": "CA bundle",
        "description": "File or folder with the certificates of a private authority; else the usual environment "
        "variables count.",
        "schema": {"type": ["string", "null"]},
    },
    "allow_http": {
        "label": "Allow plain http",
        "description": "Lets the token travel unencrypted to other hosts than this one; only for a private network.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, in the form of Airflow's ``provider_info.schema.json``."""
    package = "airflow_sb_provider"
    integration = "Seven Bridges Platform"
    return {
        "package-name": "airflow-sb-provider",
        "name": "Seven Bridges",
        "description": "Exports files from the Seven Bridges Platform to S3 and GCS volumes.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://docs.sevenbridges.com/reference/start-an-export-job-v2",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": integration, "python-modules": [f"{package}.hooks.sevenbridges"]}],
        "operators": [
            {
                "integration-name": integration,
                "python-modules": [f"{package}.operators.export", f"{package}.operators.bulk_export"],
            }
        ],
        "sensors": [{"integration-name": integration, "python-modules": [f"{package}.sensors.export"]}],
        "triggers": [
            {
                "integration-name": integration,
                "python-modules": [f"{package}.triggers.export", f"{package}.triggers.watcher"],
            }
        ],
        "extra-links": [
            f"{package}.links.export.SevenBridges{name}Link" for name in ("File", "Project", "Volume", "Destination")
        ],
        "plugins": [
            {
                "name": "sevenbridges_export",
                "plugin-class": f"{package}.plugins.export_tab.SevenBridgesExportPlugin",
            }
        ],
        "connection-types": [
            {
                "connection-type": "sevenbridges",
                "hook-class-name": f"{package}.hooks.sevenbridges.SevenBridgesHook",
                "hook-name": "Seven Bridges",
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": CONN_FIELDS,
            }
        ],
    }
