from __future__ import annotations

import os
import tempfile

# Airflow reads these when it is first imported, which the tests do while they are collected.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-sb-tests-"))
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__UNIT_TEST_MODE", "True")
