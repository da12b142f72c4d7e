"""The links of a task's details page.

Airflow shows what is in a link's XCom. The operators push it as soon as it is known; when a task's process ends Airflow
asks the link once more and writes its answer over it.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow_sb_provider._compat import BaseOperatorLink, XCom

log = logging.getLogger(__name__)


class SevenBridgesLink(BaseOperatorLink):
    """A link whose address the operator pushes; empty where it is not known."""

    name = ""

    @property
    def xcom_key(self) -> str:
        """The XCom that holds the address."""
        return f"_link_{type(self).__name__}"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, or nothing; never raises."""
        known: dict[str, str] = getattr(operator, "known_links", {})
        if self.xcom_key in known:
            return known[self.xcom_key]
        try:
            address = XCom.get_value(key=self.xcom_key, ti_key=ti_key)
        except Exception as error:
            log.debug("No address for the link %r: %s", self.name, error)
            return ""
        return address if isinstance(address, str) else ""


class SevenBridgesFileLink(SevenBridgesLink):
    """The file on the Platform."""

    name = "File on the Platform"


class SevenBridgesProjectLink(SevenBridgesLink):
    """The project whose files are exported."""

    name = "Project on the Platform"


class SevenBridgesVolumeLink(SevenBridgesLink):
    """The bucket under the volume, in the cloud's console: a volume has no page of its own."""

    name = "Volume's bucket"


class SevenBridgesDestinationLink(SevenBridgesLink):
    """The exported object or objects, in the cloud's console."""

    name = "Exported to"
