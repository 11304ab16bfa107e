"""dvc.yaml against the code: what a stage imports, reads, writes and is told by parameters."""

import ast
import functools
from pathlib import Path

import pytest
import yaml

from dualvla import config, paths

ROOT = Path(__file__).parents[1]
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = GRAPH["stages"]

# The frame around every stage: a change here does not change what a stage computes.
FRAME = {
    "dualvla",
    "dualvla.config",
    "dualvla.errors",
    "dualvla.files",
    "dualvla.paths",
    "dualvla.progress",
    "dualvla.stages",
    "dualvla.stages.runner",
    "dualvla.simulation.vulkan",
    "dualvla.quality",  # a changed expectation runs no old stage again: see its docstring
}


def file_of(module: str) -> Path | None:
    base = ROOT / Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Modules of this project that a module imports, inside functions too."""
    path = file_of(module)
    assert path is not None, module
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], base]).rstrip(".")
            inner = [f"{base}.{alias.name}" for alias in node.names]
            found |= {name for name in inner if file_of(name)} or {base}
    ours = {name for name in found if name.split(".")[0] == "dualvla" and file_of(name)}
    return frozenset(ours - FRAME - {module})


def closure(module: str) -> set[str]:
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name not in seen and name not in FRAME:
            seen.add(name)
            todo += imports(name)
            todo += [p for p in [name.rpartition(".")[0]] if p not in FRAME and p != "dualvla"]
    return seen


def code(stage: str) -> list[str]:
    """Files a stage runs, relative to the repository."""
    found = [file_of(name) for name in closure(f"dualvla.stages.{stage}")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found if path)


def covered(path: str, deps: list[str]) -> bool:
    return any(path == dep or path.startswith(f"{dep}/") for dep in deps)


def used_sections(stage: str) -> set[str]:
    """Sections that the stage's own module reads as `params.<section>`."""
    tree = ast.parse((ROOT / f"dualvla/stages/{stage}.py").read_text())
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "params"
        and node.attr in config.Params.model_fields
    }


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_what_the_stage_imports(stage):
    deps = STAGES[stage]["deps"]
    trivial = {"dualvla/__init__.py", "dualvla/stages/__init__.py"}
    missing = [path for path in code(stage) if path not in trivial and not covered(path, deps)]
    missing = [path for path in missing if has_code(ROOT / path)]
    assert not missing
    ours = [dep for dep in deps if dep.startswith("dualvla/")]
    assert not [dep for dep in ours if not any(covered(path, [dep]) for path in code(stage))]


def has_code(path: Path) -> bool:
    body = ast.parse(path.read_text()).body
    return any(
        not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body
    )


@pytest.mark.parametrize("stage", STAGES)
def test_every_parameter_section_a_stage_reads_is_declared(stage):
    declared = {name.split(".")[0] for name in STAGES[stage]["params"]}
    # evaluate.models is asked by stages only to refuse a model that is not in it.
    asked = {"evaluate"} if "model" in STAGES[stage].get("matrix", {}) else set()
    assert used_sections(stage) <= declared | asked | {"threads"}


def test_declared_parameters_exist_and_all_others_are_known_not_to_matter():
    values = config.load(ROOT / "params.yaml").model_dump()
    leaves = {
        f"{section}.{key}" if isinstance(content, dict) else section
        for section, content in values.items()
        for key in (content if isinstance(content, dict) else [None])
    }
    declared = {name for stage in STAGES.values() for name in stage["params"]}
    assert all(name in leaves or name in values for name in declared)
    exempt = {
        leaf
        for leaf in leaves
        if covered(leaf.replace(".", "/"), [n.replace(".", "/") for n in config.WITHOUT_EFFECT])
    }
    matter = {leaf for leaf in leaves if leaf in declared or leaf.split(".")[0] in declared}
    assert leaves == matter | exempt


def test_outputs_are_those_of_paths():
    outs = {out for stage in STAGES.values() for out in stage["outs"]}
    expected = {
        *(paths.DEMONSTRATIONS, paths.ANNOTATED, paths.MULTIMODAL, paths.MIXTURE, paths.PRUNED),
        *(paths.model(name) for name in ("base_vlm", "specialist", "generalist", "${item.arm}")),
        *(folder / "${item.model}" for folder in (paths.EVALUATION, paths.BENCHMARK)),
        *(folder / "${item.model}" for folder in (paths.SCORE, paths.DIAGNOSIS)),
        paths.REPORT,
    }
    assert outs == {path.as_posix() for path in expected}


@pytest.mark.parametrize("stage", STAGES)
def test_commands_are_constant(stage):
    """A parameter in a command would rerun the stage whenever the command's text changes."""
    command = STAGES[stage]["cmd"].split()
    assert command[:3] == ["python", "-m", f"dualvla.stages.{stage}"]
    item = next(iter(STAGES[stage].get("matrix", {})), None)
    assert command[3:] == ([f"--{item}", f"${{item.{item}}}"] if item else [])


def test_every_output_is_cached():
    assert all(isinstance(out, str) for stage in STAGES.values() for out in stage["outs"])


def test_dvc_reads_the_graph():
    from tasks import graph

    upstreams = graph.read(ROOT)
    names = list(upstreams)
    assert all(names.index(up) < names.index(name) for name in names for up in upstreams[name])
    assert "distill@dualvla" in upstreams
    assert set(upstreams["report"]) >= {"evaluate@dualvla", "score@base_ft", "diagnose@dualvla"}
    assert {"generalist", "specialist", "prune", "mix"} <= set(upstreams["distill@dualvla"])
