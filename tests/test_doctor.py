"""What `dualvla doctor` says of this machine."""

import pytest

from dualvla import doctor, workspace
from dualvla.errors import UserError


@pytest.fixture
def plan(bare_project):
    return workspace.plan(bare_project.root)


def test_every_finding_that_is_bad_says_how_to_mend_it(plan, monkeypatch):
    monkeypatch.setattr(doctor, "CHECKS", tuple(c for c in doctor.CHECKS if c is not doctor.vulkan))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    findings = {finding.name: finding for finding in doctor.examine(plan)}
    assert findings["prefect"].state == "bad"
    assert findings["python"].state == "ok"
    assert all(finding.fix for finding in findings.values() if finding.state == "bad")


def test_servers_that_are_stopped_are_no_fault(plan):
    findings = [doctor._finding(check, plan) for check in (doctor.prefect, doctor.s3)]
    assert [finding.state for finding in findings] == ["note", "note"]


@pytest.mark.sim
def test_rendering_is_probed_once_for_the_same_drivers(plan, monkeypatch, port_base):
    monkeypatch.setenv("DUALVLA_PORT_BASE", str(port_base))
    doctor.preflight(plan)
    monkeypatch.setattr(doctor, "vulkan", lambda plan: pytest.fail("probed again"))
    doctor.preflight(plan)
    monkeypatch.setenv("VK_ICD_FILENAMES", "/nonexistent")
    with pytest.raises(pytest.fail.Exception):
        doctor.preflight(plan)


def test_shards_that_were_ingested_are_data_enough(bare_project):
    bare_project.patch(demonstrations={"source": "incoming"})
    assert doctor.data(workspace.plan(bare_project.root)) == "shards that were ingested"


def test_imported_data_without_a_label_cannot_teach_the_scene_layer(bare_project):
    (bare_project.root / "rlds").mkdir()
    (bare_project.root / "rlds/dataset_info.json").write_text("{}")
    rlds = {"source": "rlds", "rlds_path": "rlds"}
    bare_project.patch(demonstrations=rlds)
    with pytest.raises(UserError, match=r"no phases to learn from.*change_point"):
        doctor.data(workspace.plan(bare_project.root))
    bare_project.patch(demonstrations=rlds, prune={"scene_layer": "change_point"})
    assert doctor.data(workspace.plan(bare_project.root)).endswith("rlds")
