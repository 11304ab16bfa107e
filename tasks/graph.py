"""The stage graph and its state, both read from DVC.

DVC's files are the only place where topology is written down; this turns it into what a scheduler
needs. It runs in this process because asking DVC's library takes a tenth of its command's time.
"""

from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

MAIN = "dvc.yaml"
Upstreams = Mapping[str, tuple[str, ...]]


def read(folder: Path, pipeline: str = MAIN) -> Upstreams:
    """Upstream stages of every stage of a pipeline, in an order that can be run.

    Args:
        folder: the workspace.
        pipeline: a DVC file in it; stages of `dvc.yaml` that it depends on belong to it too.

    Returns:
        Stage name (`distill@dualvla` for an item of a matrix) to names, both in the file's order.
    """
    from dvc.repo import Repo
    from dvc.repo.index import Index

    with Repo(str(folder)) as repo:
        # Reading the other file too would cost the nightly run seconds for nothing.
        main = str(folder.resolve() / MAIN)  # a relative one is looked for where we are
        index = Index.from_file(repo, main) if pipeline == MAIN else repo.index
        graph = index.graph
        position = {stage.name: number for number, stage in enumerate(index.stages)}
        todo = [stage for stage in graph if stage.path_in_repo == pipeline]
        wanted = set()
        while todo:
            stage = todo.pop()
            if stage not in wanted:
                wanted.add(stage)
                todo += graph.successors(stage)
        edges = {
            stage.name: tuple(sorted((up.name for up in graph.successors(stage)), key=position.get))
            for stage in sorted(wanted, key=lambda stage: position[stage.name])
        }
    return {name: edges[name] for name in TopologicalSorter(edges).static_order()}


def addresses(folder: Path, pipeline: str, graph: Upstreams) -> dict[str, str]:
    """What DVC calls each stage from the workspace's top: stages of other files with the file."""
    main = graph if pipeline == MAIN else read(folder)
    return {name: name if name in main else f"{pipeline}:{name}" for name in graph}


def changed(folder: Path, graph: Upstreams, pipeline: str = MAIN) -> dict[str, list[str]]:
    """Stages that are out of date, each with DVC's reasons, and all that depend on them."""
    from dvc.repo import Repo

    target = str(folder.resolve() / pipeline)  # as above
    with Repo(str(folder)) as repo:
        status: Mapping[str, list[Any]] = repo.status(targets=[target], with_deps=True)
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
