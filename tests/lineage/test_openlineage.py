"""The events against what the specification asks of a RunEvent, version 2-0-2."""

import datetime
import re

import jsonschema
import pytest

from dualvla.lineage import openlineage
from dualvla.report import lineage

FACETS = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "required": ["_producer", "_schemaURL"],
        "properties": {
            "_producer": {"type": "string", "format": "uri"},
            "_schemaURL": {"type": "string", "pattern": "^https://openlineage.io/spec/"},
        },
    },
}
NAMED = {
    "type": "object",
    "required": ["namespace", "name"],
    "properties": {
        "namespace": {"type": "string", "minLength": 1},
        "name": {"type": "string", "minLength": 1},
        **dict.fromkeys(("facets", "inputFacets", "outputFacets"), FACETS),
    },
    "additionalProperties": False,
}
EVENT = {
    "type": "object",
    "required": ["eventTime", "producer", "schemaURL", "run", "job", "eventType"],
    "properties": {
        "eventTime": {"type": "string", "format": "date-time"},
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "producer": {"type": "string", "format": "uri"},
        "schemaURL": {
            "const": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
        },
        "run": {
            "type": "object",
            "required": ["runId"],
            "properties": {"runId": {"type": "string", "format": "uuid"}, "facets": FACETS},
        },
        "job": NAMED,
        "inputs": {"type": "array", "items": NAMED},
        "outputs": {"type": "array", "items": NAMED},
    },
    "additionalProperties": False,
}
CHECK = jsonschema.Draft202012Validator(
    EVENT, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)
LOCK = {
    "collect": {
        "cmd": "collect",
        "deps": [{"path": "dualvla/collect.py", "md5": "c0de"}],
        "params": {"params.yaml": {"seed": 0, "tasks": ["carrot"]}},
        "outs": [{"path": "data/episodes", "md5": "e1.dir"}],
    },
    "train@one": {
        "cmd": "train",
        "deps": [{"path": "data/episodes", "md5": "e1.dir"}],
        "outs": [{"path": "models/one", "md5": "m1.dir"}],
    },
}
SUMMARY = {
    "quality": [{"source": "data/episodes/quality.json", "suite": "episodes", "success": True}],
    "timings": [{"stage": "collect", "started": "2026-01-01T00:00:00+00:00", "seconds": 90.0}],
}
NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)


@pytest.fixture
def events():
    stages = lineage.ancestry(LOCK, ["train@one"])
    found = openlineage.events(stages, SUMMARY, commit="abc1234", at=NOW)
    found += openlineage.publication(stages[-1:], "s3://bucket", "registry/one/0123", at=NOW)
    return found


def test_every_event_is_what_the_specification_asks(events):
    for event in events:
        CHECK.validate(event)
    broken = events[0] | {"run": {"runId": "collect"}}
    with pytest.raises(jsonschema.ValidationError, match="is not a 'uuid'"):
        CHECK.validate(broken)


def test_each_stage_starts_and_completes_and_the_publication_is_last(events):
    kinds = [(event["job"]["name"], event["eventType"]) for event in events]
    names = ("collect", "train@one", "publish")
    assert kinds == [(name, kind) for name in names for kind in ("START", "COMPLETE")]
    assert [event["eventTime"][:19] for event in events[:3]] == [
        "2026-01-01T00:00:00",
        "2026-01-01T00:01:30",
        "2026-01-02T00:00:00",  # it did not run in the workspace
    ]


def test_data_sets_carry_their_md5_and_gates_and_join_the_jobs(events):
    collected, trained, published = events[1], events[3], events[5]
    (made,), (read,) = collected["outputs"], trained["inputs"]
    assert (made["name"], made["namespace"]) == (read["name"], read["namespace"])
    assert made["facets"]["version"]["datasetVersion"] == "e1.dir"
    assert read["inputFacets"]["dataQualityAssertions"]["assertions"] == [
        {"assertion": "episodes", "success": True, "params": {}}
    ]
    assert [one["name"] for one in published["inputs"]] == ["models/one"]
    (version,) = published["outputs"]
    assert (version["namespace"], version["name"]) == ("s3://bucket", "registry/one/0123")


def test_parameters_code_and_commit_are_told(events):
    told = events[0]["run"]["facets"]["executionParameters"]["parameters"]
    assert [(one["key"], one["value"]) for one in told] == [("seed", "0"), ("tasks", '["carrot"]')]
    code = events[0]["job"]["facets"]["dualvla_code"]
    assert (code["commit"], code["md5"]) == ("abc1234", {"dualvla/collect.py": "c0de"})


def test_a_run_is_the_same_wherever_it_is_told_and_another_on_other_inputs(events):
    def run(lock):
        stages = lineage.ancestry(lock, ["train@one"])
        told = openlineage.events(stages, SUMMARY | {"timings": []}, commit=None, at=NOW)
        return [event["run"]["runId"] for event in told]

    assert run(LOCK) == [event["run"]["runId"] for event in events[:4]]
    other = LOCK | {"collect": LOCK["collect"] | {"params": {"params.yaml": {"seed": 1}}}}
    assert not set(run(LOCK)) & set(run(other))
    assert re.fullmatch(r"[0-9a-f-]{36}", run(LOCK)[0])
