"""What a reviewer sees in the Prefect UI: tables, plots and where the report lies.

All of it is read from the report's own files: `summary.json` with every figure, or the ablation's
Markdown page, which is made of it, so that the UI cannot disagree with the report. Plots go into
Markdown as data URIs: the UI prints an image artifact's address over its side bar.
"""

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from dualvla import files
from dualvla.store import client
from dualvla.store.versions import Version
from tasks.run import RETRAIN, Run

WEEK = 7 * 24 * 3600  # seconds; the longest a signed address lives
QUALITY_KEY = "quality"


@task(name="artifacts", task_run_name="artifacts", cache_policy=NO_CACHE)
def show(run: Run, version: Version) -> None:
    """Create the run's artifacts; `version` is what was published."""
    report, where = run.folder / run.pipeline.report, run.where
    summary = files.read_json(report / "summary.json")
    texts = pages(summary) if run.pipeline is RETRAIN else ablation(report)
    for key, text in texts.items():
        create_markdown_artifact(text, key=key)
    create_markdown_artifact(plots(report / "plots", summary["profile"]), key="plots")
    name = f"{version.prefix}/{run.pipeline.report.as_posix()}/{run.pipeline.page}"
    address = client.connect(where).generate_presigned_url(
        "get_object", Params={"Bucket": where.bucket, "Key": name}, ExpiresIn=WEEK
    )
    about = f"s3://{where.bucket}/{version.prefix}, signed for a week; the same page is at {report}"
    create_link_artifact(address, key="report", link_text="report", description=about)


def failed_gates(folder: Path) -> None:
    """Show the outcome of the quality gates after one has failed."""
    reports = sorted((folder / ".cache/quality").glob("*.json"))
    gates = [{"source": str(path), **files.read_json(path)} for path in reports]
    rows = [_gate(gate, _broken(gate)) for gate in gates]
    header = ("gate", "outcome", "expectations", "failed", "report")
    create_markdown_artifact(table(header, rows), key=QUALITY_KEY)


def pages(summary: Mapping[str, Any]) -> dict[str, str]:
    """Markdown by artifact key: success, retention, quality."""
    condition = f"{summary['assets']} assets, success mode {summary['success_mode']}"
    success = [
        (row["model"], row["starts"], row["task"], f"{row['k']}/{row['n']}", *interval(row))
        for row in summary["success"]
    ]
    retention = [
        (row["group"], row["layer"], f"{row['k']}/{row['n']}", _percent(row["rate"]))
        for row in summary["retention"]
    ]
    quality = [_gate(row, row["remarks"]) for row in summary["quality"]]
    verdict = summary["verdict"]["text"]
    return {
        "success": f"{verdict}\n\nSeed {summary['seed']}, {condition}, Wilson 95 % intervals.\n\n"
        + table(("model", "starts", "task", "successes", "rate", "low", "high"), success),
        "retention": "Frames that keep their reasoning text.\n\n"
        + table(("group", "layer", "frames", "share"), retention),
        QUALITY_KEY: table(("gate", "outcome", "expectations", "remarks", "report"), quality),
    }


def ablation(report: Path) -> dict[str, str]:
    """Markdown by artifact key: the ablation's tables, without its pictures."""
    lines = (report / "report.md").read_text(encoding="utf-8").splitlines()
    return {"ablation": "\n".join(line for line in lines if not line.startswith("!["))}


def plots(folder: Path, title: str) -> str:
    """Every SVG of a folder in one Markdown text."""
    parts = [f"# {title}"]
    for path in sorted(folder.glob("*.svg")):
        data = base64.b64encode(path.read_bytes()).decode()
        parts.append(f"## {path.stem}\n\n![{path.stem}](data:image/svg+xml;base64,{data})")
    return "\n\n".join(parts)


def table(header: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _gate(gate: Mapping[str, Any], remarks: list[str]) -> tuple[str, ...]:
    name = gate["suite"] if gate.get("subject") is None else f"{gate['suite']} {gate['subject']}"
    outcome = "passed" if gate["success"] else "FAILED"
    count = sum(gate["counts"].values())
    return (name, outcome, str(count), "; ".join(remarks) or "none", gate["source"])


def _broken(gate: Mapping[str, Any]) -> list[str]:
    return [
        f"{' and '.join(outcome['columns']) or outcome['table']}: {outcome['expected']}"
        for outcome in gate["expectations"]
        if outcome["status"] in ("missing", "failed")
    ]


def interval(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """A rate and its bounds in percent."""
    return (_percent(row["rate"]), _percent(row["low"]), _percent(row["high"]))


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
