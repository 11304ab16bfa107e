"""Models of finished runs in the registry of a real S3 server."""

import json

import published_runs
import pytest
from published_runs import MODEL

from dualvla import files
from dualvla.errors import UserError
from dualvla.store import aliases, client, differences, registry, versions

RUN = {"run": "retrain/1", "commit": "abc1234"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that makes the workspace of a run."""

    def make(name: str, **planted: object):
        return published_runs.build(tmp_path / name, monkeypatch, **planted)

    return make


def test_a_version_holds_weights_results_card_report_and_how_they_came_about(where, run):
    folder = run("one")
    done = registry.publish(where, folder, MODEL, **RUN)
    manifest = versions.read_manifest(where, done.prefix)
    assert versions.verify(where, done.prefix) == done.files == len(manifest["files"])
    assert {
        "README.md",
        "dvc.lock",
        "params.yaml",
        "model/model.safetensors",
        "evaluate/results.parquet",
        "benchmark/answers.parquet",
        "score/scores.parquet",
        "report/index.html",
    } <= set(manifest["files"])
    about = manifest["about"]
    assert (about["run"], about["commit"]) == ("retrain/1", "abc1234")
    assert about["params"]["prune"]["tolerance"] == 0
    assert about["dvc_lock"] == files.sha256(folder / "dvc.lock")
    assert set(about["data"]) == {"data/demonstrations", "data/pruned"}
    assert about["environment"] == {"python": "3.11.2"}
    row = about["metrics"]["success"][0]
    assert 0 < row["low"] < row["rate"] < row["high"] < 1
    assert about["canary"] == {"passed": True, "episodes": 8, "ran": 7, "remark": None}
    card = versions.read(where, done.prefix, manifest, "README.md").decode()
    assert f"# dualvla dualvla {done.prefix.rpartition('/')[2]}" in card
    assert registry.fingerprint(manifest) == files.sha256(folder / "models" / MODEL)


def test_the_same_model_is_one_version_whatever_run_comes_to_it(where, run):
    first = registry.publish(where, run("one"), MODEL, **RUN)
    again = registry.publish(where, run("two"), MODEL, run="retrain/2", commit="def")
    other = registry.publish(where, run("three", weights=b"others"), MODEL, **RUN)
    assert (first.prefix, again.new) == (again.prefix, False)
    assert other.new
    assert other.prefix != first.prefix
    listed = registry.listing(where, MODEL)
    assert [one.manifest["version"] for one in listed] == [first.prefix, other.prefix]
    assert registry.models(where) == [MODEL]


def test_results_that_dvc_does_not_know_are_not_published(where, run):
    folder = run("one")
    (folder / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    with pytest.raises(UserError, match="no record of models/dualvla"):
        registry.publish(where, folder, MODEL, **RUN)
    assert registry.models(where) == []


def test_a_canary_tells_a_policy_that_does_not_move(where, run):
    folder = run("one")
    steps = folder / "results/evaluate" / MODEL / "steps.parquet"
    import pandas as pd

    table = pd.read_parquet(steps).assign(**dict.fromkeys(published_runs.PLACES, 0.5))
    table.to_parquet(steps)
    told = registry.canary(steps.parent)
    assert not told["passed"]
    assert "the gripper stayed within" in told["remark"]


def test_an_alias_or_the_beginning_of_a_name_stands_for_a_version(where, run):
    names = [
        registry.publish(where, run(name, weights=name.encode()), MODEL, **RUN).prefix[-16:]
        for name in ("one", "two")
    ]
    with pytest.raises(UserError, match="production is not set"):
        registry.resolve(where, MODEL, "production")
    aliases.move(where, aliases.read(where, MODEL, "production"), names[1])
    assert registry.resolve(where, MODEL, "production") == names[1]
    assert registry.resolve(where, MODEL, names[0]) == names[0]
    assert registry.resolve(where, MODEL, names[0][:6]) == names[0]
    for wanted in ("nothing", names[0][:2]):
        with pytest.raises(UserError, match=f"no version {wanted}"):
            registry.resolve(where, MODEL, wanted)


def test_what_differs_is_told_by_parameter_data_success_and_file(where, run):
    one, other = (
        versions.read_manifest(where, registry.publish(where, folder, MODEL, **RUN).prefix)
        for folder in (run("one"), run("two", weights=b"others", lost=0.5))
    )
    assert differences.between(one, one) == []
    changed = json.loads(json.dumps(other))
    changed["about"]["params"]["prune"]["tolerance"] = 3
    text = "\n".join(differences.between(one, changed))
    assert "parameter prune.tolerance: 0 -> 3" in text
    assert "file model/model.safetensors: " in text
    assert "success official all: " in text
    assert "model/environment.json" not in text


def test_a_folder_without_a_manifest_is_no_version(where, run):
    registry.publish(where, run("one"), MODEL, **RUN)
    s3 = client.connect(where)
    for key in ("registry/dualvla/half/model/manifest.json", "registry/dualvla/decisions/x.json"):
        s3.put_object(Bucket=where.bucket, Key=key, Body=b"{}")
    assert len(registry.listing(where, MODEL)) == 1
