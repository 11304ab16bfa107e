"""What differs between two published versions, told by their manifests alone."""

from collections.abc import Mapping
from typing import Any


def between(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Lines for people about what differs between two versions' manifests."""
    lines = [f"{one['version']} -> {other['version']}"]
    for title, name in (("parameter", "params"), ("data", "data"), ("environment", "environment")):
        lines += _changes(title, _flatten(one["about"][name]), _flatten(other["about"][name]))
    rates = [
        {
            f"{row['starts']} {row['task']}": f"{row['k']}/{row['n']}"
            for row in manifest["about"]["metrics"]["success"]
        }
        for manifest in (one, other)
    ]
    lines += _changes("success", *rates)
    sums = [
        {name: entry["sha256"][:12] for name, entry in manifest["files"].items()}
        for manifest in (one, other)
    ]
    lines += _changes("file", *sums)
    return lines if len(lines) > 1 else []


def _flatten(data: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of nested mappings by dotted name."""
    if not isinstance(data, Mapping):
        return {prefix: data}
    parts: dict[str, Any] = {}
    for key, value in data.items():
        parts |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return parts


def _changes(title: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    names = [*one, *(name for name in other if name not in one)]
    return [
        f"{title} {name}: {one.get(name, 'none')} -> {other.get(name, 'none')}"
        for name in names
        if one.get(name, "none") != other.get(name, "none")
    ]
