"""An Airflow with users, and a browser, for the tests of the user interface and for the screenshots."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By

from dev.airflow_stack import PATIENCE, AirflowStack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from selenium.webdriver.remote.webelement import WebElement

    from airflow_sb_provider.emulator import Emulator

CONFIG = Path(__file__).resolve().parent / "ui_config"
ADMIN, OUTSIDER = "admin", "outsider"
TAB = "sevenbridges-export"
TIMEOUT = 300.0
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--force-device-scale-factor=1",
)


class NoBrowserError(RuntimeError):
    """Chromium is not installed; the message says how to install it."""


class UiStack(AirflowStack):
    """An Airflow with two users: an administrator, and one who may not see any Dag.

    Args:
        home: an empty folder for AIRFLOW_HOME.
        dags_folder: where the DAGs are.
        platform: the local Platform; links are built as if it had web pages.
        connected: whether the connection to the Platform exists from the start.
    """

    def __init__(self, home: Path, dags_folder: Path, platform: Emulator, *, connected: bool = False) -> None:
        self.passwords = {name: secrets.token_urlsafe(12) for name in (ADMIN, OUTSIDER)}
        config = home / "config"
        config.mkdir(parents=True)
        for each in CONFIG.glob("*.py"):
            shutil.copy(each, config)
        passwords = home / "passwords.json"
        passwords.write_text(json.dumps(self.passwords))
        environment = {
            **platform.s3_environment(),
            "LOCAL_PLATFORM": platform.url,
            "AIRFLOW__CORE__AUTH_MANAGER": "outsider_auth.OutsiderAuthManager",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin,{OUTSIDER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__WEBSERVER__INSTANCE_NAME": "Airflow",
        }
        connections = {"sevenbridges_default": platform.connection_json()} if connected else {}
        super().__init__(home, dags_folder, connections, environment)

    def wait_healthy(self, timeout: float = PATIENCE) -> None:
        """Wait until all components are healthy, then log in to the REST API."""
        super().wait_healthy(timeout)
        response = self._session.post(
            f"{self.url}/auth/token", json={"username": ADMIN, "password": self.passwords[ADMIN]}, timeout=30
        )
        response.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {response.json()['access_token']}"

    def tab(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
        """Return the URL of a task instance's tab."""
        mapped = f"/mapped/{map_index}" if map_index >= 0 else ""
        return f"{self.task(dag_id, run_id, task_id)}{mapped}/plugin/{TAB}"

    def task(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Return the URL of a task instance's page."""
        return f"{self.url}/dags/{dag_id}/runs/{run_id}/tasks/{task_id}"


class Browser:
    """A headless Chromium.

    Args:
        width: the page's width in pixels.
        height: the page's height in pixels.
    """

    def __init__(self, width: int = 1400, height: int = 900) -> None:
        binary, driver = _find("chromium", "chromium-browser", "google-chrome"), _find("chromedriver")
        self._profile = tempfile.TemporaryDirectory(prefix="sevenbridges-browser-")
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for argument in (*_ARGUMENTS, f"--window-size={width},{height}", f"--user-data-dir={self._profile.name}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        self.resize(width, height)

    def close(self) -> None:
        """Close the browser."""
        self.driver.quit()
        self._profile.cleanup()

    def resize(self, width: int, height: int) -> None:
        """Set the page's size in pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def theme(self, name: str) -> None:
        """Set the theme, light or dark, of the system and of Airflow."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.execute_script("localStorage.setItem('theme', arguments[0])", name)

    def log_in(self, airflow: UiStack, user: str = ADMIN) -> None:
        """Log out, and log in with Airflow's form."""
        self.driver.get(f"{airflow.url}/auth/login/")
        self.driver.delete_all_cookies()
        self.driver.get(f"{airflow.url}/auth/login/")
        self.field("username").send_keys(user)
        self.field("password").send_keys(airflow.passwords[user])
        self.driver.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
        self.until(lambda: "/auth/login" not in self.driver.current_url, "the login")

    def go(self, address: str) -> None:
        """Open a page."""
        self.driver.switch_to.default_content()
        self.driver.get(address)

    def field(self, name: str) -> WebElement:
        """Return a form field by its name."""
        return self.find(By.NAME, name)

    def find(self, by: str, selector: str) -> WebElement:
        """Wait until an element is displayed, and return it."""
        found: list[WebElement] = []

        def is_displayed_now() -> bool:
            found[:] = [element for element in self.driver.find_elements(by, selector) if element.is_displayed()]
            return bool(found)

        self.until(is_displayed_now, selector)
        return found[0]

    def button(self, text: str) -> WebElement:
        """Return a button or link by its text."""
        words = f"[contains(normalize-space(.), '{text}') or @aria-label='{text}']"
        return self.find(By.XPATH, f"//button{words} | //a{words}")

    def text(self) -> str:
        """Return the text of the page, or of the current frame."""
        try:
            return self.driver.find_element(By.TAG_NAME, "body").text
        except StaleElementReferenceException:
            return ""

    def wait_for(self, *words: str, patience: float = TIMEOUT) -> str:
        """Wait until the page shows all these words, and return its text."""
        self.until(lambda: all(word in self.text() for word in words), " and ".join(map(repr, words)), patience)
        return self.text()

    def open_tab(self, airflow: UiStack, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> None:
        """Open a task instance's tab and switch to its frame."""
        self.go(airflow.tab(dag_id, run_id, task_id, map_index))
        self.driver.switch_to.frame(self.find(By.CSS_SELECTOR, "iframe[title='Seven Bridges']"))

    def complaints(self) -> Sequence[str]:
        """Return the errors in the browser's console, such as violations of the content security policy."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")  # type: ignore[no-untyped-call]
            if entry["level"] == "SEVERE"
        ]

    def shoot(self, path: Path) -> None:
        """Save a screenshot of the page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(path))

    def until(self, condition: Callable[[], Any], what: str, patience: float = TIMEOUT) -> None:
        """Wait for a condition; on a timeout, raise AssertionError with the page's text."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            try:
                if condition():
                    return
            except StaleElementReferenceException:
                pass
            time.sleep(0.2)
        raise AssertionError(f"waited {patience:.0f} s for {what} at {self.driver.current_url}:\n{self.text()}")


@contextmanager
def browser(width: int = 1400, height: int = 900) -> Iterator[Browser]:
    """Open a browser, and close it at the end of the block."""
    opened = Browser(width, height)
    try:
        yield opened
    finally:
        opened.close()


def _find(*names: str) -> str:
    for name in names:
        if path := shutil.which(name):
            return path
    raise NoBrowserError(
        f"{names[0]} is not installed. On Debian: apt-get install -y chromium chromium-driver. "
        "On other systems: Chromium or Chrome, and the chromedriver of the same version."
    )
