"""The Airflow UI: Chromium drives a real Airflow 3.3 with the local Platform. The tests run in this order."""

from __future__ import annotations

import json

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from airflow_sb_provider.emulator.seed import VCF
from dev.ui import OUTSIDER

pytestmark = [pytest.mark.ui, pytest.mark.timeout(600)]
EXPORT, BULK, APP = "sevenbridges_export", "sevenbridges_bulk_export", "sevenbridges_run_app"


def type_into(browser, name, text):
    field = browser.field(name)
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(text)


def links(browser, airflow, *task, last="Exported to"):
    """The links on a task's details page."""
    browser.go(airflow.task(*task) + "/details")
    browser.button(last)
    found = browser.driver.find_elements(By.CSS_SELECTOR, "a[href^='https://']")
    return {
        each.text: each.get_attribute("href")
        for each in found
        if "airflow.apache.org" not in each.get_attribute("href")
    }


@pytest.fixture
def last_run(airflow):
    def of(dag_id):
        runs = airflow.get(f"/dags/{dag_id}/dagRuns", order_by="-run_after", limit=1)["dag_runs"]
        return runs[0]["dag_run_id"]

    return of


def test_the_form_creates_a_connection_and_tests_it(browser, airflow, platform):
    browser.go(f"{airflow.url}/connections")
    browser.button("Add Connection").click()
    browser.field("connection_id").send_keys("sevenbridges_default")
    kind = browser.find(By.CSS_SELECTOR, "input[role=combobox]")
    kind.click()
    kind.send_keys("Seven")
    browser.wait_for("Seven Bridges")
    kind.send_keys(Keys.ENTER)
    browser.field("host").send_keys(f"http://{platform.host}")
    browser.field("port").send_keys(str(platform.port))
    browser.field("password").send_keys(platform.token)
    browser.button("Extra Fields").click()
    form = browser.wait_for("Environment", "BioData Catalyst", "OAuth token")
    assert "Advance access" in form
    switches = browser.driver.find_elements(By.CSS_SELECTOR, "[role=dialog] input[type=checkbox]")
    assert len(switches) == 3
    assert not [each.get_attribute("name") for each in switches if each.is_selected()]
    browser.button("Save").click()
    browser.wait_for("sevenbridges_default")

    saved = airflow.get("/connections/sevenbridges_default")
    assert (saved["conn_type"], saved["host"], saved["port"]) == ("sevenbridges", "http://127.0.0.1", platform.port)
    assert "***" not in json.dumps(json.loads(saved["extra"] or "{}"))

    browser.button("Test Connection").click()
    browser.wait_for(f"Connected to {platform.url} as demo")


def test_the_form_starts_a_move_and_the_tab_follows_it(browser, airflow, platform, last_run):
    platform.knobs.stuck = True
    airflow.wait_for_dag(EXPORT)
    browser.go(f"{airflow.url}/dags/{EXPORT}")
    browser.button("Trigger").click()
    form = browser.wait_for("Run Parameters", "Copy only", "Overwrite")
    assert "cannot be undone" in form
    assert "can destroy the only copy of another file" in form
    type_into(browser, "element_location", "ui/<b>moved</b>.vcf")
    copy_only = browser.driver.find_element(By.NAME, "element_copy_only")
    browser.driver.execute_script("arguments[0].click()", copy_only)
    browser.driver.find_elements(By.XPATH, "//button[normalize-space(.)='Trigger']")[-1].click()
    browser.until(lambda: platform.exports, "an export on the Platform")
    run_id = last_run(EXPORT)

    browser.open_tab(airflow, EXPORT, run_id, "export")
    text = browser.wait_for("Queued", "Move NA12878.vcf")
    assert "demo/genomics" in text
    assert "199 bytes" in text
    assert "s3://demo-results/exports/ui/<b>moved</b>.vcf" in text
    assert "the project file becomes an alias" in text
    assert "Submitted by this task" in text
    browser.driver.execute_script("window.stayed = true")
    browser.driver.switch_to.default_content()
    assert links(browser, airflow, EXPORT, run_id, "export") == {
        "File on the Platform": f"https://platform.example/u/demo/genomics/files/{VCF}/",
        "Volume's bucket": "https://s3.console.aws.amazon.com/s3/buckets/demo-results?prefix=exports/",
        "Exported to": "https://s3.console.aws.amazon.com/s3/object/demo-results"
        "?prefix=exports/ui/%3Cb%3Emoved%3C/b%3E.vcf",
    }

    browser.open_tab(airflow, EXPORT, run_id, "export")
    browser.wait_for("Queued", "Move NA12878.vcf")
    browser.driver.execute_script("window.stayed = true")
    platform.knobs.running_seconds = 3600.0
    platform.knobs.stuck = False
    browser.wait_for("Moving NA12878.vcf", patience=600)
    platform.knobs.running_seconds = 0.5
    browser.wait_for("Moved NA12878.vcf", "Completed", "ETag", patience=600)
    assert browser.driver.execute_script("return window.stayed"), "the page was reloaded"
    assert not browser.driver.find_elements(By.TAG_NAME, "b") or "moved" not in [
        each.text for each in browser.driver.find_elements(By.TAG_NAME, "b")
    ]
    assert browser.complaints() == []


def test_a_failure_shows_reason_remedy_and_code(browser, airflow, platform):
    platform.trouble("job_fails", code=9103, message="No access to <script>alert(1)</script>.")
    run_id = airflow.trigger(EXPORT, {"location": "ui/failed.vcf", "file": "5f0000000000000000000002"})
    airflow.wait(EXPORT, run_id)
    browser.open_tab(airflow, EXPORT, run_id, "export")
    text = browser.wait_for("Failed", "What to do:")
    assert "No access to <script>alert(1)</script>." in text
    assert "Code\n9103" in text


def test_a_bulk_task_shows_its_figures(browser, airflow):
    run_id = airflow.trigger(BULK, {"location_pattern": "ui-bulk/{path}/{name}"})
    airflow.wait(BULK, run_id)
    summary = airflow.xcom(BULK, run_id, "export", "summary")
    browser.open_tab(airflow, BULK, run_id, "export")
    done = summary["counts"].get("COMPLETED", 0)
    text = browser.wait_for(f"{done} of {summary['total']} files copied")
    assert "project demo/genomics" in text
    assert "s3://demo-results/exports/ui-bulk/" in text
    assert browser.find(By.CSS_SELECTOR, "[role=progressbar]").get_attribute("aria-valuenow") == str(done)
    assert links(browser, airflow, BULK, run_id, "export") == {
        "Project on the Platform": "https://platform.example/u/demo/genomics/",
        "Volume's bucket": "https://s3.console.aws.amazon.com/s3/buckets/demo-results?prefix=exports/",
        "Exported to": "https://s3.console.aws.amazon.com/s3/buckets/demo-results?prefix=exports/ui-bulk/",
    }


def test_the_tab_of_an_app_follows_its_task(browser, airflow, platform):
    platform.knobs.update(stuck=True, queue_reason="account_limit")
    run_id = airflow.trigger(APP, {})
    browser.until(lambda: platform.platform.tasks, "a task on the Platform")
    browser.open_tab(airflow, APP, run_id, "run_app")
    browser.wait_for("Queued", "Run demo/genomics/gzip-with-index in demo/genomics", "the account's limit of instances")
    platform.knobs.stuck = False
    browser.wait_for("Ran demo/genomics/gzip-with-index", "1 of 1 completed", "Output files", patience=600)
    [task_id] = platform.platform.tasks
    assert links(browser, airflow, APP, run_id, "run_app", last="App on the Platform") == {
        "Task on the Platform": f"https://platform.example/u/demo/genomics/tasks/{task_id}/",
        "App on the Platform": "https://platform.example/u/demo/genomics/apps/#demo/genomics/gzip-with-index",
    }
    assert browser.complaints() == []


def test_another_task_has_no_status(browser, airflow, last_run):
    browser.open_tab(airflow, EXPORT, last_run(EXPORT), "properties")
    browser.wait_for("This task has no status")


def test_the_tab_fits_a_phone_and_follows_the_theme(browser, airflow, last_run):
    browser.resize(390, 844)
    query = f"dag_id={EXPORT}&run_id={last_run(EXPORT).replace('+', '%2B')}&task_id=export&map_index={{MAP_INDEX}}"
    colors = {}
    for theme in ("light", "dark"):
        browser.theme(theme)
        browser.go(f"{airflow.url}/sevenbridges-export/?{query}")
        browser.wait_for("Source file")
        width = browser.driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= 390
        colors[theme] = browser.driver.execute_script("return getComputedStyle(document.body).color")
    assert colors["light"] != colors["dark"]


def test_a_user_without_access_to_the_dag_sees_nothing_of_it(browser, airflow, platform, last_run):
    run_id = last_run(EXPORT)
    browser.log_in(airflow, OUTSIDER)
    query = f"dag_id={EXPORT}&run_id={run_id.replace('+', '%2B')}&task_id=export"
    browser.go(f"{airflow.url}/sevenbridges-export/?{query}")
    text = browser.wait_for("You do not have access to this task")
    for word in ("NA12878", "demo-results", "demo/genomics", platform.exports[0].id):
        assert word not in text
        assert word not in browser.driver.page_source
    browser.go(f"{airflow.url}/sevenbridges-export/?{query}")
    browser.driver.delete_all_cookies()
    browser.go(f"{airflow.url}/sevenbridges-export/?{query}")
    browser.wait_for("Log in to Airflow again")
