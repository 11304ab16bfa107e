"""An audit that asked nobody is not a clean one."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "infra/audit.py"


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CLEAN = {"name": "a", "version": "1", "vulns": []}
SKIPPED = {"name": "b", "skip_reason": "not found"}
FLAWED = {"name": "c", "version": "2", "vulns": [{"id": "X-1", "fix_versions": ["3"]}]}


def test_an_index_that_tells_nothing_is_named(audit):
    lines, code = audit.judge([SKIPPED])
    assert lines[0].startswith("NOT AUDITED")
    assert code == 0


def test_flaws_fail_and_are_named_with_their_remedy(audit):
    lines, code = audit.judge([CLEAN, SKIPPED, FLAWED])
    assert code == 1
    assert lines[0] == "c 2: X-1, mended in 3"
    assert lines[1] == "2 packages audited, 1 unknown to the index, 1 flaws"
    assert audit.judge([CLEAN]) == (["1 packages audited, 0 unknown to the index, 0 flaws"], 0)
