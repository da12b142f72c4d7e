"""The links of a task that exports files."""

from __future__ import annotations

from airflow_sb_provider.links.base import SevenBridgesLink


class SevenBridgesFileLink(SevenBridgesLink):
    """The file on the Platform."""

    name = "File on the Platform"


class SevenBridgesProjectLink(SevenBridgesLink):
    """The project of the exported files."""

    name = "Project on the Platform"


class SevenBridgesVolumeLink(SevenBridgesLink):
    """The volume's bucket, in the cloud's console: a volume has no page on the Platform."""

    name = "Volume's bucket"


class SevenBridgesDestinationLink(SevenBridgesLink):
    """The exported object or objects, in the cloud's console."""

    name = "Exported to"
