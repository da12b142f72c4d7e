from __future__ import annotations

from datetime import datetime

import pytest

from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.tasks.request import TaskRequest, wish_key

APP, PROJECT = "owner/project/app/3", "owner/project"


def request(**fields):
    return TaskRequest.checked(**{"app": APP, "project": PROJECT, **fields})


WRONG = [
    ("app", "app", "'app' is not owner/project/app"),
    ("app", "owner/project/app/latest", "is not owner/project/app"),
    ("app", "owner/../app", "is not owner/project/app"),
    ("app", None, "None is empty or not text"),
    ("project", "project", "is not owner/name"),
    ("project", "a/b/c", "is not owner/name"),
    ("name", "two\nlines", "not printable"),
    ("inputs", "text", "'text' is not a mapping"),
    ("inputs", {"a": datetime(2026, 1, 1)}, "a: datetime.datetime(2026, 1, 1, 0, 0) is not a JSON value"),
    ("inputs", {"a": [float("nan")]}, "a[0]: nan is not a JSON value"),
    ("execution_settings", {"instance_typ": "x"}, "'instance_typ' is unknown; use instance_type"),
    ("execution_settings", {"max_parallel_instances": 0}, "max_parallel_instances: 0 is not a whole number above 0"),
    ("execution_settings", {"use_memoization": "perhaps"}, "use_memoization: 'perhaps' is not a boolean"),
    ("use_interruptible_instances", "perhaps", "'perhaps' is not a boolean"),
    ("batch_by", "sample_id", "'sample_id' is not a metadata field"),
    ("batch_by", [], "[] is no criterion"),
    ("batch_by", [3], "3 is not a metadata field"),
    ("output_location", {"main": "x"}, "'main' is unknown; use main_location"),
    ("output_location", 4, "4 is not a mapping"),
]


@pytest.mark.parametrize(("field", "value", "problem"), WRONG, ids=repr)
def test_a_wrong_value_is_named_with_its_field(field, value, problem):
    with pytest.raises(SevenBridgesInputError) as caught:
        request(**{field: value})
    [text] = caught.value.problems
    assert text.startswith(f"{field}: ")
    assert problem in text


def test_all_wrong_fields_are_named_at_once():
    with pytest.raises(SevenBridgesInputError) as caught:
        request(**{field: value for field, value, _ in WRONG})
    assert {text.partition(":")[0] for text in caught.value.problems} == {field for field, _, _ in WRONG}


@pytest.mark.parametrize("fields", [{"batch_by": "item"}, {"batch_input": "x"}])
def test_a_batch_needs_a_criterion_and_an_input(fields):
    with pytest.raises(SevenBridgesInputError, match="give both, or neither"):
        request(**fields)


BATCHES = [
    ("item", {"type": "ITEM"}),
    ({"type": "ITEM"}, {"type": "ITEM"}),
    ("metadata.sample_id", {"type": "CRITERIA", "criteria": ["metadata.sample_id"]}),
    ("['metadata.a', 'metadata.b']", {"type": "CRITERIA", "criteria": ["metadata.a", "metadata.b"]}),
    ({"type": "CRITERIA", "criteria": ["metadata.a"]}, {"type": "CRITERIA", "criteria": ["metadata.a"]}),
]


@pytest.mark.parametrize(("batch_by", "sent"), BATCHES, ids=repr)
def test_a_batch_is_sent_as_the_api_has_it(batch_by, sent):
    body = request(batch_by=batch_by, batch_input="reads").body({})
    assert (body["batch"], body["batch_input"], body["batch_by"]) == (True, "reads", sent)


def test_text_from_a_template_is_read():
    read = request(
        inputs='{"a": 1}', execution_settings="{'max_parallel_instances': '4'}", use_interruptible_instances="true"
    )
    assert (read.inputs, read.execution_settings) == ({"a": 1}, {"max_parallel_instances": 4})
    assert read.use_interruptible_instances is True
    assert request(output_location="results/<task_id>").output_location == {"main_location": "results/<task_id>"}


@pytest.mark.parametrize("value", [None, "None", ""])
def test_what_is_not_set_is_not_sent(value):
    fields = ("name", "description", "execution_settings", "use_interruptible_instances", "batch_by", "output_location")
    body = request(**dict.fromkeys(fields, value)).body({"a": 1})
    assert body == {"project": PROJECT, "app": APP, "name": "", "description": "", "inputs": {"a": 1}}


def test_a_task_is_the_same_with_another_name_or_instance():
    same = request(inputs={"a": 1}, name="n", description="d", execution_settings={"instance_type": "x"})
    assert same.fingerprint == request(inputs={"a": 1}).fingerprint
    others = [request(inputs={"a": 2}), request(), request(app="owner/project/app/4", inputs={"a": 1})]
    others += [request(inputs={"a": 1}, output_location="x"), request(project="owner/other", inputs={"a": 1})]
    assert same.fingerprint not in {each.fingerprint for each in others}


KEY = wish_key("dag", "run", "task", -1)


def marked(description="", key=KEY, generation=2):
    return TaskRequest(APP, PROJECT, description=description, key=key, generation=generation)


@pytest.mark.parametrize("description", ["", "Two\nlines.", "Airflow key: 0123-1"])
def test_the_description_carries_the_key(description):
    wish = marked(description)
    sent = wish.body({})["description"]
    assert sent.startswith(description)
    assert wish.generation_of(sent) == 2
    assert marked(generation=5).generation_of(sent) == 2
    assert marked(key=wish_key("dag", "run", "task", 0)).generation_of(sent) is None
    assert wish.generation_of(description) is None


def test_a_key_that_is_a_part_of_another_does_not_count():
    wish = marked(key="abc")
    assert wish.generation_of("Airflow key: abcd-1") is None
    assert wish.generation_of("Airflow key: abc-1 and more") is None
    assert wish.generation_of("Airflow key: abc-1\r\nmore") == 1


def test_the_parts_of_an_identity_do_not_run_together():
    assert wish_key("a", "bc") != wish_key("ab", "c")
