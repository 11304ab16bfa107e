"""The chain as OpenLineage events, for catalogues that collect lineage of many systems.

Every stage is a job, every run of it a START and a COMPLETE event, every file or folder a data set
whose version is its md5 in DVC. A run's identifier is derived from the hash of all that led to it:
the same stage on the same inputs is the same run, on whichever machine. Built with the project's
own Python classes, so that what the specification requires cannot be left out.
"""

import datetime
import json
import uuid
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

import dualvla

FILE = "openlineage.json"
NAMESPACE = "dualvla"  # of jobs and of paths in the workspace
PRODUCER = f"pkg:pypi/dualvla@{dualvla.__version__}"


def events(
    stages: Iterable[Mapping[str, Any]],
    summary: Mapping[str, Any],
    *,
    commit: str | None,
    at: datetime.datetime,
) -> list[dict[str, Any]]:
    """Two events a stage, as plain data.

    Args:
        stages: rows of `lineage.ancestry`.
        summary: the report's, for gates and times.
        commit: of the code, if it is known.
        at: time of events whose stage did not run in the workspace, so that no time is known.
    """
    gates = {row["source"]: row for row in summary["quality"]}
    times = {row["stage"]: row for row in summary["timings"] if row.get("started")}
    found = []
    for row in stages:
        started, ended = _times(times.get(row["stage"]), at)
        parts = _parts(row, gates, commit)
        found += [_plain("START", started, **parts), _plain("COMPLETE", ended, **parts)]
    return found


def publication(
    stages: Iterable[Mapping[str, Any]], bucket: str, prefix: str, *, at: datetime.datetime
) -> list[dict[str, Any]]:
    """Two events of a version's publication: what `stages` wrote becomes an object at `bucket`."""
    from openlineage.client import event_v2

    inputs = {path: md5 for row in stages for path, md5 in row["files"]["outs"].items()}
    version = _version(PurePosixPath(prefix).name)
    output = event_v2.OutputDataset(bucket, prefix, facets=version)
    run = event_v2.Run(_identifier("publish", f"{bucket}/{prefix}"))
    job = event_v2.Job(NAMESPACE, "publish", facets=_batch())
    parts = {"run": run, "job": job, "inputs": _inputs(inputs, {}), "outputs": [output]}
    return [_plain(kind, at, **parts) for kind in ("START", "COMPLETE")]


def dumps(found: list[dict[str, Any]]) -> str:
    """The events as a JSON array."""
    return json.dumps(found, indent=2, sort_keys=True) + "\n"


def _parts(
    row: Mapping[str, Any], gates: Mapping[str, Mapping[str, Any]], commit: str | None
) -> dict[str, Any]:
    """What both events of a stage say."""
    from openlineage.client import event_v2
    from openlineage.client.facet_v2 import JobFacet, RunFacet, execution_parameters_run

    parameters = [
        execution_parameters_run.ExecutionParameter(key=key, value=json.dumps(value))
        for values in row["values"].values()
        for key, value in sorted(values.items())
    ]
    told = execution_parameters_run.ExecutionParametersRunFacet(parameters, producer=PRODUCER)
    chain: Any = RunFacet(producer=PRODUCER).with_additional_properties(chain=row["chain"])
    code = {"command": row["cmd"], "commit": commit, "md5": dict(row["files"]["code"])}
    facet: Any = JobFacet(producer=PRODUCER).with_additional_properties(**code)
    run = _identifier(row["stage"], row["chain"], json.dumps(row["files"], sort_keys=True))
    return {
        "run": event_v2.Run(run, facets={"executionParameters": told, "dualvla_chain": chain}),
        "job": event_v2.Job(NAMESPACE, row["stage"], facets={**_batch(), "dualvla_code": facet}),
        "inputs": _inputs(row["files"]["data"], gates),
        "outputs": [
            event_v2.OutputDataset(NAMESPACE, path, facets=_version(md5))
            for path, md5 in sorted(row["files"]["outs"].items())
        ],
    }


def _plain(kind: str, at: datetime.datetime, **parts: Any) -> dict[str, Any]:
    from openlineage.client import event_v2, serde

    event = event_v2.RunEvent(
        eventType=event_v2.RunState[kind], eventTime=at.isoformat(), producer=PRODUCER, **parts
    )
    return serde.Serde.to_dict(event)


def _identifier(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, ":".join((NAMESPACE, *parts))))


def _batch() -> dict[str, Any]:
    from openlineage.client.facet_v2 import job_type_job

    facet = job_type_job.JobTypeJobFacet("BATCH", "DVC", "TASK", producer=PRODUCER)
    return {"jobType": facet}


def _inputs(found: Mapping[str, str | None], gates: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import data_quality_assertions_dataset as quality

    inputs = []
    for path, md5 in sorted(found.items()):
        judged = [
            quality.Assertion(assertion=row["suite"], success=row["success"])
            for source, row in gates.items()
            if PurePosixPath(source).is_relative_to(path)
        ]
        facet = quality.DataQualityAssertionsDatasetFacet(assertions=judged, producer=PRODUCER)
        more: dict[str, Any] = {"dataQualityAssertions": facet} if judged else {}
        inputs.append(InputDataset(NAMESPACE, path, facets=_version(md5), inputFacets=more))
    return inputs


def _version(value: str | None) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_version_dataset

    if value is None:
        return {}
    facet = dataset_version_dataset.DatasetVersionDatasetFacet(value, producer=PRODUCER)
    return {"version": facet}


def _times(
    row: Mapping[str, Any] | None, at: datetime.datetime
) -> tuple[datetime.datetime, datetime.datetime]:
    if row is None:
        return at, at
    started = datetime.datetime.fromisoformat(row["started"])
    return started, started + datetime.timedelta(seconds=row["seconds"])
