"""The stage graph and its state, both read from DVC.

`dvc.yaml` is the only place where topology is written down; this turns it into what a scheduler
needs. It runs in this process because asking DVC's library takes a tenth of its command's time.
"""

from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

Upstreams = Mapping[str, tuple[str, ...]]


def read(folder: Path) -> Upstreams:
    """Upstream stages of every stage of `folder/dvc.yaml`, in an order that can be run.

    Returns:
        Stage name (`distill@dualvla` for an item of a matrix) to names, both in dvc.yaml's order.
    """
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        graph = repo.index.graph
        position = {stage.name: number for number, stage in enumerate(repo.index.stages)}
        edges = {
            stage.name: tuple(sorted((up.name for up in graph.successors(stage)), key=position.get))
            for stage in sorted(graph, key=lambda stage: position[stage.name])
        }
    return {name: edges[name] for name in TopologicalSorter(edges).static_order()}


def changed(folder: Path, graph: Upstreams) -> dict[str, list[str]]:
    """Stages that are out of date, each with DVC's reasons, and all that depend on them."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        status: Mapping[str, list[Any]] = repo.status()
    found = {name.rsplit(":", 1)[-1]: _reasons(entries) for name, entries in status.items()}
    for name, upstreams in graph.items():
        late = [up for up in upstreams if up in found]
        if late and name not in found:
            found[name] = [f"after {', '.join(late)}"]
    return found


def _reasons(entries: list[Any]) -> list[str]:
    reasons = []
    for entry in entries:
        if isinstance(entry, str):
            reasons.append(entry)
        else:
            reasons += [f"{what}: {', '.join(map(str, which))}" for what, which in entry.items()]
    return reasons
