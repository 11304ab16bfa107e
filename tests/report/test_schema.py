import re
from pathlib import Path

import results_workspace

from dualvla.report import summary

DOCUMENT = Path(__file__).parents[2] / "docs" / "report-schema.md"


def test_every_key_is_documented(tmp_path, monkeypatch):
    params = results_workspace.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    figures = summary.collect(params)
    words = set(re.findall(r"`(\w+)(?:\[\])?`", DOCUMENT.read_text()))
    keys = set(figures)
    for name, section in figures.items():
        if isinstance(section, list) and section and isinstance(section[0], dict):
            keys |= set(section[0])
        elif isinstance(section, dict) and name != "reported":
            keys |= set(section)
    for rows in (figures["lineage"]["sources"], figures["lineage"]["stages"]):
        keys |= set(rows[0])
    assert keys <= words
    assert f"schema {figures['schema']}" in DOCUMENT.read_text()
