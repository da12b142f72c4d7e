"""The provider's description, which Airflow reads without importing anything else."""

from __future__ import annotations

from typing import Any

from airflow_sb_provider import __version__

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    # The Test button of Airflow 3.3.2 rejects every connection without a port (apache/airflow#73298).
    "hidden-fields": ["schema", "login"],
    "relabeling": {"password": "Authentication token", "host": "API endpoint"},
    "placeholders": {
        "password": "from the Platform's page Developer > Authentication token",
        "host": "leave empty if you choose an environment under Extra Fields",
        "port": "443 (required by the Test button of Airflow 3.3)",
    },
}

CONN_FIELDS: dict[str, Any] = {
    "environment": {
        "label": "Environment",
        "description": "The Platform of your account: bdc (BioData Catalyst), cgc (Cancer Genomics Cloud), cavatica, "
        "sb-us, sb-eu or sb-cn. The API endpoint under Standard Fields takes precedence.",
        "schema": {
            "type": ["string", "null"],
            "enum": ["bdc", "cgc", "cavatica", "sb-us", "sb-eu", "sb-cn"],
        },
    },
    "oauth": {
        "label": "OAuth token",
        "description": "For a token from single sign-on, which is sent as 'Authorization: Bearer' instead of "
        "'X-SBG-Auth-Token'. Leave off for a token from the Developer page.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
    "advance_access": {
        "label": "Advance access",
        "description": "Sends the header 'X-SBG-Advance-Access'. Leave off unless Seven Bridges support recommends it.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
    "connect_timeout": {
        "label": "Connect timeout",
        "description": "Seconds to wait for a connection. Default: 10.",
        "schema": {"type": ["number", "null"], "minimum": 0},
    },
    "read_timeout": {
        "label": "Read timeout",
        "description": "Seconds to wait for a response. Default: 60.",
        "schema": {"type": ["number", "null"], "minimum": 0},
    },
    "gateway_timeout": {
        "label": "Gateway timeout",
        "description": "Seconds after which a submission without a response can no longer be accepted. Default: 90.",
        "schema": {"type": ["number", "null"], "minimum": 0},
    },
    "ca_bundle": {
        "label": "CA bundle",
        "description": "File or folder with the certificates of a private certificate authority. Default: the "
        "environment variables REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE or SSL_CERT_FILE.",
        "schema": {"type": ["string", "null"]},
    },
    "allow_http": {
        "label": "Allow plain HTTP",
        "description": "Sends the token unencrypted to an http:// endpoint other than localhost. Use only in a private "
        "network.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, as Airflow's ``provider_info.schema.json`` defines it."""
    package = "airflow_sb_provider"
    integration = "Seven Bridges Platform"
    return {
        "package-name": "airflow-sb-provider",
        "name": "Seven Bridges",
        "description": "Runs apps on the Seven Bridges Platform, and exports files to S3 and GCS volumes.",
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
                "python-modules": [
                    f"{package}.operators.{module}" for module in ("export", "bulk_export", "verify", "task")
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": integration,
                "python-modules": [f"{package}.sensors.export", f"{package}.sensors.task"],
            }
        ],
        "triggers": [
            {
                "integration-name": integration,
                "python-modules": [f"{package}.triggers.{module}" for module in ("export", "task", "watcher")],
            }
        ],
        "retry-policies": [{"integration-name": integration, "python-modules": [f"{package}.retry_policy"]}],
        "extra-links": [
            *(
                f"{package}.links.export.SevenBridges{name}Link"
                for name in ("File", "Project", "Volume", "Destination")
            ),
            *(f"{package}.links.task.SevenBridges{name}Link" for name in ("Task", "App")),
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
