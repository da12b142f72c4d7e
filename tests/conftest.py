from __future__ import annotations

import atexit
import os
import shutil
import tempfile

import pytest
import requests

# Airflow reads these variables when it is first imported, which happens during collection.
if "AIRFLOW_HOME" not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:
    # Each process of pytest-xdist has its own database.
    home = os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-sb-tests-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
os.environ.setdefault("AIRFLOW__CORE__UNIT_TEST_MODE", "True")
# The hooks read the certificates that these variables name for each connection, in 20 ms; no test leaves this machine.
for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
    os.environ.pop(name, None)


# What the tests of such a file or folder share takes long to start, so one process runs all of them.
TOGETHER = (
    "tests/docs",
    "tests/faults/test_kills.py",
    "tests/integration/dags",
    "tests/integration/stack",
    "tests/integration/test_proxy.py",
    "tests/matrix/test_provider.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Distribute the tests to the processes of pytest-xdist one by one, those of TOGETHER first."""
    # Not `--dist loadgroup`: pytest-xdist 3.8 cannot write its groups into the ids of pytest 9.2, and ignores them.
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return next((each for each in TOGETHER if nodeid.startswith(each)), nodeid)

    return Scheduler(config, log)


@pytest.fixture
def s3_endpoint(monkeypatch):
    """Run an empty S3-compatible service and set its credentials; yields its URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    # All servers of a process share their contents.
    requests.post(f"{url}/moto-api/reset", timeout=10)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield url
    server.stop()
