"""The model card of a published model: README.md with the metadata model hubs read.

Figures come from the report's summary, so a card never says more than the report of the run that
made the model. A rate stands beside its n and interval in the text; the metadata's `model-index`
has room for the bare value only and names the conditions instead.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from dualvla.config import Params
from dualvla.errors import UserError
from dualvla.report import costs
from dualvla.report.rendering import figure, percent

Summary = Mapping[str, Any]

ROLES = {
    "specialist": "Action-only policy trained on robot demonstrations; the action teacher.",
    "generalist": "Policy that reasons at every frame; the start of the repaired models.",
    "dualvla": "Generalist repaired by dual-layer data pruning and dual-teacher distillation.",
    "base_ft": "Control: the generalist trained on for the same steps, without both.",
}
OTHER = "Ablation arm of the distillation."
PAPER = "2511.22134"


def render(model: str, summary: Summary, params: Params, version: str | None = None) -> str:
    """The text of README.md for one model.

    Args:
        model: specialist, generalist or an arm.
        summary: `report/summary.json` of the run.
        params: parameters of the run.
        version: published version, if any.

    Raises:
        UserError: the summary has no results of the model.
    """
    if model not in summary["models"]:
        what = f"the report has no model {model}, only {', '.join(summary['models'])}"
        raise UserError(what, where="report/summary.json", fix="evaluate the model, then report")
    head = yaml.safe_dump(_metadata(model, summary, params), sort_keys=False, width=1000)
    return f"---\n{head}---\n\n{_text(model, summary, params, version)}"


def _metadata(model: str, summary: Summary, params: Params) -> dict[str, Any]:
    tags = ["robotics", "vla", "vision-language-action", "widowx", "simpler-env", "dualvla"]
    data: dict[str, Any] = {
        "license": "apache-2.0",
        "library_name": "dualvla",
        "pipeline_tag": "robotics",
        "language": ["en"],
        "tags": [*tags, f"arxiv:{PAPER}"],
    }
    if params.model.vlm != "tiny":
        data["base_model"] = params.model.vlm
    results = [_result(row) for row in _successes(model, summary)]
    asked = _asked(model, summary)
    if asked is not None and asked["rate"] is not None:
        dataset = {"name": "generated held-out questions", "type": "dualvla/heldout-questions"}
        metric = {"name": f"exact answers, n {asked['n']}", "type": "accuracy"}
        results.append(_entry("visual-question-answering", dataset, metric, asked["rate"]))
    return data | {"model-index": [{"name": f"dualvla-{model}", "results": results}]}


def _result(row: Mapping[str, Any]) -> dict[str, Any]:
    task = "all tasks" if row["task"] == "all" else row["task"]
    name = f"SimplerEnv WidowX {task}, {row['starts']} starts, {row['assets']} assets"
    dataset = {"name": name, "type": f"simpler-env/widowx-{row['task']}"}
    metric = {"name": f"success rate, mode {row['mode']}, n {row['n']}", "type": "success_rate"}
    return _entry("robotics", dataset, metric, row["rate"])


def _entry(
    task: str, dataset: dict[str, Any], metric: dict[str, Any], value: float
) -> dict[str, Any]:
    metric |= {"value": round(value, 4), "verified": False}
    return {"task": {"type": task}, "dataset": dataset, "metrics": [metric]}


def _text(model: str, summary: Summary, params: Params, version: str | None) -> str:
    title = f"# dualvla {model}" + (f" {version}" if version else "")
    rows = "".join(
        f"| {row['task']} | {row['starts']} | {percent(row['rate'])} | {row['k']}/{row['n']} "
        f"| {percent(row['low'])} to {percent(row['high'])} |\n"
        for row in _successes(model, summary)
    )
    asked = _asked(model, summary)
    answers = "not measured" if asked is None else _asked_text(asked)
    size = "a tiny model trained from scratch" if params.model.vlm == "tiny" else params.model.vlm
    notes = "".join(f"- {note}\n" for note in summary["notes"])
    assets = summary["assets"]
    compare = "" if assets == "official" else " They may not be set beside published results."
    return f"""{title}

{ROLES.get(model, OTHER)} Method: DualVLA (arXiv {PAPER}). Vision-language model: {size}.

{summary["verdict"]["text"]}

## Results

Simulated WidowX, success mode {summary["success_mode"]}, {assets} assets, evaluation seed
{summary["evaluation_seed"]}; percent with its Wilson 95 % interval.{compare}

| task | starts | success | episodes | interval |
|---|---|---:|---:|---|
{rows}
Held-out visual questions: {answers}.

{notes}
## Use

Input: one RGB picture of {params.simulation.image_size} x {params.simulation.image_size} pixels, an
instruction in English and the arm's state. Output: chunks of {params.model.chunk} actions of 7
numbers (end-effector delta and absolute gripper), un-normalised with the statistics stored beside
the weights. `config.json` declares frames, units and gripper polarity; a consumer with another
convention is refused.

## Limits

Trained and evaluated in simulation on {len(summary["tasks"])} tasks. Not tested on a real robot, on
other objects or in other languages. Do not run it on hardware without a person at the emergency
stop.

## Cost

{_cost(model, summary)}

## Lineage

{_lineage(model, summary)}
"""


def _lineage(model: str, summary: Summary) -> str:
    chains = {row["stage"]: row["chain"] for row in summary["lineage"]["stages"]}
    named = {stage: chain for stage, chain in chains.items() if stage.split("@")[-1] == model}
    if not named:
        return "Not recorded: the run was made without `dvc repro`."
    rows = "".join(f"| {stage} | `{chain}` |\n" for stage, chain in named.items())
    head = "Hash of all data, parameters and code that led to each stage (see the run's report):"
    return f"{head}\n\n| stage | chain |\n|---|---|\n{rows}".rstrip()


def _cost(model: str, summary: Summary) -> str:
    """Of every stage that led to the model and its results, as far as they ran in the workspace."""
    rows = costs.of_model(model, summary)
    whole = costs.total(rows)
    if not whole["measured"]:
        return "Not measured: the stages did not run in the workspace that published the model."

    def told(value: float | None, unit: float, name: str) -> str:
        return f"{name} not measured" if value is None else f"{figure(value / unit)} {name}"

    parts = (
        told(whole["seconds"], 3600, "hours one stage after the other"),
        told(whole["cpu_seconds"], 3600, "CPU hours"),
        told(whole["gpu_seconds"], 3600, "GPU hours"),
        told(whole["peak_rss_mib"], 1024, "GiB of memory at most"),
        told(whole["energy_joules"], 3.6e6, f"kWh of energy ({', '.join(whole['energy_of'])})")
        if whole["energy_of"]
        else "energy not measured",
    )
    head = f"{whole['measured']} of the {whole['stages']} stages that led to the model and its"
    table = "".join(
        f"| {row['stage']} | {figure(row['seconds'])} | {figure(row['cpu_seconds'])} "
        f"| {figure(row['gpu_seconds'])} | {figure(row['peak_rss_mib'])} |\n"
        for row in rows
        if row["seconds"] is not None
    )
    return (
        f"{head} results were measured: {'; '.join(parts)}.\n\n"
        f"| stage | seconds | CPU s | GPU s | peak MiB |\n|---|---:|---:|---:|---:|\n{table}"
    ).rstrip()


def _successes(model: str, summary: Summary) -> list[Mapping[str, Any]]:
    rows = [r for r in summary["success"] if r["model"] == model and r["rate"] is not None]
    return sorted(rows, key=lambda row: row["task"] == "all")


def _asked(model: str, summary: Summary) -> Mapping[str, Any] | None:
    found = [r for r in summary["questions"] if (r["model"], r["kind"]) == (model, "all")]
    return found[0] if found else None


def _asked_text(row: Mapping[str, Any]) -> str:
    low, high = percent(row["low"]), percent(row["high"])
    return f"{percent(row['rate'])} % exact ({row['k']}/{row['n']}, {low} to {high})"
