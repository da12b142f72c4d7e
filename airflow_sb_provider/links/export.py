"""The links of a task's details page.

Airflow shows what its database has as a link's XCom. The operators write it as soon as it is known, past any XCom
backend, as Airflow does; when a task's process ends Airflow gets the link once more and writes that over it.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow_sb_provider._compat import BaseOperatorLink
from airflow_sb_provider._compat import PlainXCom as XCom

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
        # Where a version before wrote it through an XCom backend, that is a reference.
        return address if isinstance(address, str) and address.startswith("https://") else ""


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
