"""Both DVC files against the code: what a stage imports, reads, writes and is told."""

import ast
import functools
from pathlib import Path

import pytest
import yaml

from dualvla import config, paths

ROOT = Path(__file__).parents[1]
MAIN = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
ABLATION = yaml.safe_load((ROOT / "ablation/dvc.yaml").read_text())["stages"]
STAGES = {**MAIN, **{f"ablation/{name}": stage for name, stage in ABLATION.items()}}

# The frame around every stage: a change here does not change what a stage computes.
FRAME = {
    "dualvla",
    "dualvla.config",
    "dualvla.errors",
    "dualvla.files",
    "dualvla.paths",
    "dualvla.progress",
    "dualvla.redaction",
    "dualvla.runs",
    "dualvla.stages",
    "dualvla.stages.runner",
    "dualvla.simulation.vulkan",
    "dualvla.store.shards",  # what it brings is compared with the sums in incoming/manifest.json
    "dualvla.quality",  # a changed expectation runs no old stage again: see its docstring
}


def module_of(stage: str) -> str:
    """The stage module that a stage runs; one of the ablation's runs another with `--run`."""
    return STAGES[stage]["cmd"].split()[2].rpartition(".")[2]


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
    found = [file_of(name) for name in closure(f"dualvla.stages.{module_of(stage)}")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found if path)


def covered(path: str, deps: list[str]) -> bool:
    return any(path == dep or path.startswith(f"{dep}/") for dep in deps)


def used_sections(stage: str) -> set[str]:
    """Sections that the stage's own module reads as `params.<section>`."""
    tree = ast.parse((ROOT / f"dualvla/stages/{module_of(stage)}.py").read_text())
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
    if stage.startswith("ablation/"):
        asked = {"evaluate", "seed", "benchmark"}  # from the ablation's own, or from `--run`
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
    outs = {out for stage in MAIN.values() for out in stage["outs"]}
    expected = {
        *(paths.DEMONSTRATIONS, paths.ANNOTATED, paths.MULTIMODAL, paths.MIXTURE, paths.PRUNED),
        *(paths.model(name) for name in ("base_vlm", "specialist", "generalist", "${item.arm}")),
        *(folder / "${item.model}" for folder in (paths.EVALUATION, paths.BENCHMARK)),
        *(folder / "${item.model}" for folder in (paths.SCORE, paths.DIAGNOSIS)),
        paths.REPORT,
    }
    assert outs == {path.as_posix() for path in expected}


def test_outputs_of_the_ablation_are_those_of_paths():
    outs = {out for stage in ABLATION.values() for out in stage["outs"]}
    run, arm, model = "${item.budget}-${item.seed}", "${item.arm}", "${item.model}"
    expected = {
        *(paths.model(name, run) for name in ("generalist", arm)),
        *(paths.results(kind, model, run) for kind in (paths.EVALUATION, paths.BENCHMARK)),
        paths.results(paths.EVALUATION, "specialist", f"{config.UNTRAINED}-${{item.seed}}"),
        paths.ABLATION / paths.REPORT,
    }
    assert outs == {path.as_posix() for path in expected}


def test_the_ablation_adds_to_the_main_graph_s_parameters_only_what_a_run_changes():
    """A parameter that the main graph's stage depends on is not lost in the other file."""
    changed = {
        "seed",
        "evaluate.starts",
        "evaluate.episodes_per_task",
        "evaluate.videos_per_task",
        "benchmark",
    }
    for name in ABLATION.keys() - {"ablation"}:
        stage = f"ablation/{name}"
        here, there = set(STAGES[stage]["params"]), set(MAIN[module_of(stage)]["params"])
        assert there - here <= changed, name
        assert all(param.startswith("ablation.") for param in here - there), name


@pytest.mark.parametrize("stage", MAIN)
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
    assert not [name for name in names if name.endswith("-0")]


def test_the_ablation_stands_on_the_main_graph():
    from tasks import graph

    file = "ablation/dvc.yaml"
    upstreams = graph.read(ROOT, file)
    assert {"distill@dualvla-short-0", "generalist@long-2", "specialist", "prune"} <= set(upstreams)
    assert not {"generalist", "distill@dualvla", "report", "score@dualvla"} & set(upstreams)
    above = set(upstreams["distill@qa_only-long-1"])
    assert above >= {"generalist@long-1", "specialist", "mix"}
    assert upstreams["evaluate_specialist@1"] == ("specialist",)
    assert "evaluate@random_mask-short-2" in upstreams["ablation"]
    addresses = graph.addresses(ROOT, file, upstreams)
    assert addresses["prune"] == "prune"
    assert addresses["distill@dualvla-short-0"] == f"{file}:distill@dualvla-short-0"
