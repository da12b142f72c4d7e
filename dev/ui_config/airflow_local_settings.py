"""Gives the local Platform a web address, so that the links of an export are shown."""

from __future__ import annotations

import os

from airflow_sb_provider.api.environments import ENVIRONMENTS, Environment

ENVIRONMENTS["local"] = Environment("Local", os.environ["LOCAL_PLATFORM"], "https://platform.example")
