from pathlib import Path

import pytest
import yaml

from dualvla.report import lineage


def lock(**stages):
    return stages


def stage(deps=(), outs=(), params=None, cmd="run"):
    def items(pairs):
        return [{"path": path, "md5": md5} for path, md5 in pairs]

    found = {"cmd": cmd, "deps": items(deps), "outs": items(outs)}
    return found | ({"params": {"params.yaml": params}} if params else {})


CODE = ("dualvla/training/loop.py", "c0de")
CHAIN = {
    "collect": stage([CODE], [("data/episodes", "e1.dir")], {"seed": 0}),
    "train": stage([CODE, ("data/episodes", "e1.dir")], [("models/one", "m1.dir")]),
    "other": stage([], [("data/other", "o1")]),
}


def test_stage_is_found_from_its_output_from_within_it_and_from_around_it():
    assert lineage.stage_of(CHAIN, Path("models/one")) == "train"
    assert lineage.stage_of(CHAIN, Path("models/one/metrics.json")) == "train"
    assert lineage.stage_of(CHAIN, Path("models")) == "train"
    assert lineage.stage_of(CHAIN, Path("models/oneself")) is None


def test_ancestry_has_sources_first_and_nothing_else():
    rows = lineage.ancestry(CHAIN, ["train"])
    assert [row["stage"] for row in rows] == ["collect", "train"]
    assert rows[1]["upstream"] == ["collect"]
    assert rows[1]["files"]["code"] == {CODE[0]: "c0de"}


@pytest.mark.parametrize(
    "changed",
    [
        stage([(CODE[0], "new")], [("data/episodes", "e1.dir")], {"seed": 0}),
        stage([CODE], [("data/episodes", "e1.dir")], {"seed": 1}),
        stage([CODE], [("data/episodes", "e1.dir")], {"seed": 0}, cmd="run --arm other"),
    ],
)
def test_chain_changes_with_code_params_and_command_upstream(changed):
    before = lineage.ancestry(CHAIN, ["train"])[-1]
    after = lineage.ancestry(CHAIN | {"collect": changed}, ["train"])[-1]
    assert before["chain"] != after["chain"]
    assert before["code"] == after["code"]


def test_a_lock_of_two_generations_with_a_cycle_ends():
    cycle = lock(
        a=stage([("y", "1")], [("x", "2")]),
        b=stage([("x", "2")], [("y", "1")]),
    )
    assert {row["stage"] for row in lineage.ancestry(cycle, ["a"])} == {"a", "b"}


def test_state_tells_recorded_from_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    file = Path("models/one")
    file.write_text("weights")
    known = lock(train=stage([], [("models/one", lineage.md5(file))]))
    assert lineage.state(known, file) == "same"
    assert lineage.state(known, Path("models/one/part")) == "inside"
    assert lineage.state(known, Path("data")) == "unrecorded"
    file.write_text("other weights")
    assert lineage.state(known, file) == "changed"


def test_no_lock_is_an_empty_one(tmp_path):
    assert lineage.read_lock(tmp_path / "dvc.lock") == {}


@pytest.mark.slow
def test_md5_is_that_of_dvc(tmp_path, monkeypatch):
    from dvc.repo import Repo

    monkeypatch.chdir(tmp_path)
    for name in ("b.txt", "a/c.bin", "a.txt", "a-b/z"):
        path = Path("data", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    with Repo.init(no_scm=True) as repo:
        repo.add("data")
    recorded = yaml.safe_load(Path("data.dvc").read_text())["outs"][0]["md5"]
    assert lineage.md5(Path("data")) == recorded
