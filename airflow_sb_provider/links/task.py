"""The links of a task that runs an app."""

from __future__ import annotations

from airflow_sb_provider.links.base import SevenBridgesLink


class SevenBridgesTaskLink(SevenBridgesLink):
    """The task on the Platform."""

    name = "Task on the Platform"


class SevenBridgesAppLink(SevenBridgesLink):
    """The app on the Platform."""

    name = "App on the Platform"
