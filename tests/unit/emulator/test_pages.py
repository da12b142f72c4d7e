"""The pages to which the links in Airflow lead, the table of files, and the reset."""

from __future__ import annotations

import html
import re

import pytest
import requests

from airflow_sb_provider.emulator.emulator import Emulator
from airflow_sb_provider.emulator.guard import PAGES
from airflow_sb_provider.emulator.listing import contents
from airflow_sb_provider.emulator.seed import BAM, GZIP, PROJECT, VCF
from airflow_sb_provider.links import urls
from tests.unit.emulator.conftest import as_file, eventually

CLICK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
HOSTILE = "<script>alert('&')</script>\u202e\"x"


def get(address, **headers):
    return requests.get(address, headers=headers, timeout=30)


def shown(address):
    """The text of a page that a click in Airflow opens."""
    response = get(address, **CLICK)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    return response.text


def test_the_links_of_the_provider_lead_to_pages(emulator):
    assert urls.LOCAL_PAGES == PAGES
    emulator.put_object("demo/results", "a b/é?.txt", b"12345")
    uri = "s3://demo-results/exports/a b/é?.txt"
    for address in (
        page := urls.file_page(emulator.url, None, VCF),
        urls.project_page(emulator.url, PROJECT),
        urls.folder_page(emulator.url, "s3://demo-results/exports"),
        urls.object_page(emulator.url, uri),
    ):
        assert urls.is_page(address)
        shown(address)
    assert "NA12878.vcf" in shown(page)
    assert "exports/a b/é?.txt" in shown(urls.folder_page(emulator.url, "s3://demo-results/exports"))
    text = shown(urls.object_page(emulator.url, uri))
    assert "<bdi>5</bdi>" in text
    [download] = re.findall(r'href="(/_local/s3[^"]+)"', text)
    assert get(emulator.pages_url.partition("/_local")[0] + html.unescape(download)).content == b"12345"


def test_pages_list_projects_files_volumes_and_exports(emulator, caller):
    job = caller.export(VCF).json()
    home = shown(emulator.pages_url)
    for text in (PROJECT, "demo/results", "demo-results/exports", job["id"]):
        assert text in home
    project = shown(urls.project_page(emulator.url, PROJECT))
    for text in (VCF, "NA12878.bam.bai", "alignments", "variants", "public: cannot be exported"):
        assert text in project
    eventually(lambda: emulator.exports[0].state == "COMPLETED")
    file = shown(urls.file_page(emulator.url, PROJECT, VCF))
    assert "Alias of" in file
    assert job["id"] in file


def test_the_page_of_a_task(emulator, caller):
    def page_of(task):
        return shown(f"{emulator.pages_url}u/{PROJECT}/tasks/{task['id']}")

    task = caller.completed(GZIP, {"file": as_file(VCF)}, description="of a variant file")
    page = page_of(task)
    assert page == shown(f"{emulator.pages_url}u/{PROJECT}/tasks/{task['id']}/")
    for text in ("a task", "of a variant file", "COMPLETED", f"{GZIP}/0", "NA12878.vcf.gz", "job.err.log"):
        assert f"<bdi>{text}</bdi>" in page
    output = task["outputs"]["compressed"]["path"]
    assert f'href="{PAGES}/files/{output}/"' in page
    file = shown(urls.file_page(emulator.url, None, output))
    assert f'href="{PAGES}/u/{PROJECT}/tasks/{task["id"]}"' in file
    [download] = re.findall(r'href="(/_local/files/[^"]+)"', file)
    assert get(emulator.pages_url.partition("/_local")[0] + download).content == emulator.file_bytes(output)
    project = shown(urls.project_page(emulator.url, PROJECT))
    assert "Gzip with index" in project
    assert "cmd.log" not in project
    draft = caller.create(GZIP, inputs={"file": [as_file(VCF)]}, batch_input="file", batch_by={"type": "ITEM"}).json()
    caller.run(draft["id"])
    caller.finished(draft["id"])
    child = emulator.tasks[-1]
    assert child.name in page_of(draft)
    assert f"tasks/{draft['id']}" in page_of({"id": child.id})
    assert "Required input is missing." in page_of(caller.create(GZIP).json())
    for path in (f"u/{PROJECT}/tasks/nothing", f"u/demo/other/tasks/{task['id']}"):
        assert get(emulator.pages_url + path).status_code == 404


def test_texts_of_tasks_are_text(emulator, caller):
    def fail(inputs):
        raise ValueError(HOSTILE)

    app = emulator.add_app("fail", fail, {"text": "string"}, {})
    body = {"name": HOSTILE, "description": HOSTILE, "inputs": {"text": HOSTILE, HOSTILE: 1}}
    task = caller.finished(caller.create(app.id, "?action=run", **body).json()["id"])
    page = shown(f"{emulator.pages_url}u/{PROJECT}/tasks/{task['id']}")
    assert page.count("&lt;script&gt;") > 5
    assert "<script" not in page + shown(urls.project_page(emulator.url, PROJECT))


def test_names_are_text(emulator):
    file = emulator.add_file(
        HOSTILE, b"x", project=f"me/{HOSTILE}".replace("/s", "s"), tags=(HOSTILE,), folder=HOSTILE.replace("/", "")
    )
    emulator.put_object("demo/results", HOSTILE, b"x")
    pages = [
        emulator.pages_url,
        urls.file_page(emulator.url, None, file.id),
        urls.project_page(emulator.url, file.project),
        urls.folder_page(emulator.url, "s3://demo-results/"),
    ]
    for page in pages:
        text = shown(page)
        assert "<script" not in text
        assert "alert" in text


def test_what_is_not_there_is_not_found(emulator):
    base = emulator.pages_url
    for path in ("u/me/nothing/", "files/none/", "buckets/other/key", "buckets/../x", "nothing"):
        assert get(f"{base}{path}", **CLICK).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Origin": "http://evil.example"},
        {"Host": "evil.example"},
    ],
    ids=str,
)
def test_another_page_can_neither_read_nor_embed_a_page(emulator, headers):
    assert get(emulator.pages_url, **CLICK | headers).status_code == 403


@pytest.mark.parametrize("path", ["/_local/state", "/_local/s3/demo-results/exports/a", "/v2/user", "/_local/pagesx"])
def test_a_click_opens_nothing_else(emulator, path):
    assert get(emulator.pages_url.replace("/_local/pages/", path), **CLICK).status_code == 403


def test_pages_run_nothing_and_need_no_token(emulator):
    response = get(emulator.pages_url)
    assert "sandbox" in response.headers["Content-Security-Policy"]
    assert emulator.token not in response.text


def test_the_table_of_files(emulator):
    emulator.add_file("a\x1b[2Jb", b"12", folder="x/y", tags=("one", "two"))
    lines = contents(emulator)
    header = next(line for line in lines if "Id" in line)
    assert header.split() == ["Id", "Name", "Bytes", "Folder", "Tags", "Note"]
    [row] = [line for line in lines if "x/y" in line]
    assert row.split()[1:] == ["a?[2Jb", "2", "x/y", "one,", "two"]
    assert row.index("x/y") == header.index("Folder")
    [bam] = [line for line in lines if BAM in line]
    assert "alignments" in bam
    assert emulator.reset_command in "\n".join(lines)


def test_a_reset_restores_the_initial_contents_while_it_runs(emulator, caller):
    before = contents(emulator)
    emulator.put_object("demo/results", "mine.txt", b"x")
    emulator.knobs.running_seconds = 0
    job = caller.export(VCF).json()
    eventually(lambda: emulator.exports[0].state == "COMPLETED")
    emulator.knobs.stuck = True
    caller.export(BAM, location="b")
    emulator.add_file("more.txt", b"x")
    assert contents(emulator) != before
    address = emulator.reset_command.split()[-1]
    assert requests.post(address, timeout=30).status_code == 200
    assert contents(emulator) == before
    assert emulator.exports == []
    assert emulator.knobs.stuck
    with pytest.raises(FileNotFoundError):
        emulator.object_bytes("demo/results", job["destination"]["location"])
    assert emulator.object_bytes("demo/results", "mine.txt") == b"x"
    # It can be exported again, to the same place.
    emulator.knobs.stuck = False
    caller.export(VCF).json()
    eventually(lambda: emulator.exports[0].state == "COMPLETED")


def test_a_reset_without_the_demo_project_leaves_nothing():
    with Emulator(seeded=False) as emulator:
        emulator.add_file("a.txt", b"x")
        assert requests.post(emulator.reset_command.split()[-1], timeout=30).status_code == 200
        assert emulator.platform.files == {}


def test_a_web_page_cannot_reset(emulator):
    address = emulator.reset_command.split()[-1]
    assert requests.post(address, headers=CLICK, timeout=30).status_code == 403
    assert VCF in emulator.platform.files
