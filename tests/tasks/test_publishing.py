"""Names of versions, and what a reviewer is shown."""

import yaml

from tasks import artifacts, store


def lock(tmp_path, stages):
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    return store.version(tmp_path)


def test_a_version_is_named_by_content_not_by_the_order_of_stages(tmp_path):
    a, b = {"outs": [{"path": "a", "md5": "1"}]}, {"outs": [{"path": "b", "md5": "2"}]}
    first = lock(tmp_path, {"a": a, "b": b})
    assert first == lock(tmp_path, {"b": b, "a": a})
    assert first != lock(tmp_path, {"a": b, "b": a})


def test_tables_survive_pipes_and_line_breaks():
    assert artifacts.table(["x"], [["a|b\nc"]]) == "| x |\n| --- |\n| a\\|b c |"


def test_a_failed_gate_says_what_failed(monkeypatch, tmp_path):
    gate = {
        "suite": "pruned",
        "subject": None,
        "success": False,
        "counts": {"failed": 1, "passed": 2},
        "source": "x.json",
        "expectations": [{"status": "failed", "columns": ["keep"], "expected": "share below 0.8"}],
    }
    row = artifacts._gate(gate, artifacts._broken(gate))
    assert row == ("pruned", "FAILED", "3", "keep: share below 0.8", "x.json")
