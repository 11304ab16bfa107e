"""Planted secrets, through a real run: they are in no log, state, artifact, file or object."""

import itertools
import json

import pytest

from dualvla import config, redaction
from dualvla.errors import UserError
from dualvla.store import client, versions

SECRET = "planted-c0ffee-0123456789"


@pytest.fixture
def place(project):
    return client.place(config.load(project.root / "params.yaml").store, project.root)


def logs(api):
    """Every log line of the server, which other tests' runs share: it gives 200 at a time."""
    for offset in itertools.count(step=200):
        page = api("/logs/filter", {"limit": 200, "offset": offset})
        if not page:
            return
        yield from page


@pytest.mark.slow
def test_a_run_keeps_no_secret(project, place, prefect_api):
    project.patch(evaluate={"models": ["dualvla", "base_ft"]})
    own = place.keys.secret
    said = {"message": f"connecting with {SECRET} and {own} at https://me:{SECRET}@host"}
    environ = {"HF_TOKEN": SECRET, "TOY": json.dumps({"annotate": said, "report": said})}
    green = project.run("retrain", **environ)
    assert green.returncode == 0, green.stderr
    failing = {"annotate": {**said, "exit": 2}}
    project.patch(annotate={"questions": 3})
    failed = project.run("retrain", **(environ | {"TOY": json.dumps(failing)}))
    assert failed.returncode == 2
    assert redaction.MASK in failed.stderr

    name = {"flow_runs": {"name": {"any_": ["default-nogit"]}}}
    kept = [
        green.stdout + green.stderr + failed.stdout + failed.stderr,
        *(str(prefect_api(f"/{what}/filter", name)) for what in ("flow_runs", "task_runs")),
        str([*logs(prefect_api)]),
        str(prefect_api("/artifacts/filter", name)),
    ]
    assert redaction.MASK in kept[3]
    for path in project.root.rglob("*"):
        if path.is_file() and path.name not in ("credentials", "s3.json"):
            kept.append(path.read_bytes().decode(errors="replace"))
    s3 = client.connect(place)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=place.bucket):
        for entry in page["Contents"]:
            body = s3.get_object(Bucket=place.bucket, Key=entry["Key"])["Body"].read()
            kept.append(body.decode(errors="replace"))
    assert len(kept) > 20
    for secret in (SECRET, own):
        assert [text for text in kept if secret in text] == []


def test_a_secret_is_not_published(place, tmp_path, monkeypatch):
    client.check(place, create=True)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    page, fine = tmp_path / "index.html", tmp_path / "fine.txt"
    page.write_text(f"<p>{SECRET}</p>")
    fine.write_text("fine")
    with pytest.raises(UserError, match=r"index.html: holds the secret of HF_TOKEN"):
        versions.publish(place, "retrain/s", {"a": fine, "index.html": page}, {})
    assert "Contents" not in client.connect(place).list_objects_v2(Bucket=place.bucket)
    versions.publish(place, "retrain/s", {"a": fine}, {"said": f"by {SECRET}"})
    about = versions.read_manifest(place, "retrain/s")["about"]
    assert about == {"said": f"by {redaction.MASK}"}
