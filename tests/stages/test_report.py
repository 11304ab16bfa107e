import json

import pytest
import results_workspace

from dualvla import paths
from dualvla.stages import report


@pytest.fixture
def params(tmp_path, monkeypatch):
    built = results_workspace.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return built


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_report_is_written_whole_and_its_place_printed(params, capsys):
    report.main(params)
    written = contents(paths.REPORT)
    assert {"index.html", "report.md", "summary.json", "plots/radar.svg"} <= set(written)
    assert json.loads(written["summary.json"])["schema"] == 2
    assert str(paths.REPORT / "index.html") in capsys.readouterr().out


def test_same_results_give_the_same_bytes(params):
    report.main(params)
    first = contents(paths.REPORT)
    report.main(params)
    assert contents(paths.REPORT) == first


def test_a_failed_report_leaves_the_old_one(params):
    report.main(params)
    before = contents(paths.REPORT)
    (paths.PRUNED / "retention.json").write_text("{}")
    with pytest.raises(KeyError):
        report.main(params)
    assert contents(paths.REPORT) == before


def test_one_episode_a_task_is_reported_without_a_claim(tmp_path, monkeypatch, capsys):
    params = results_workspace.build(tmp_path, trials=1)
    monkeypatch.chdir(tmp_path)
    report.main(params)
    assert "no difference is shown" in capsys.readouterr().out
