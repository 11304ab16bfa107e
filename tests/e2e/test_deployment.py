"""What compose.yaml starts, natively: Postgres, Prefect on it, S3 with identities, a worker.

A deployment of prefect.yaml is run by its cron, and a failed run is told to a webhook.
"""

import base64
import contextlib
import http.server
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import postgres
import pytest
import urllib3

from dualvla import config, stack
from dualvla.store import client

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
LOGIN = "dualvla:a-login-for-this-test"


class Server:
    """Prefect's API with a login."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, path: str, body: object | None = None, login: str = LOGIN):
        headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
        method = "GET" if body is None else "POST"
        answer = urllib3.request(
            method, f"{self.url}/api{path}", json=body, headers=headers, timeout=60
        )
        if answer.status >= 300:
            raise LookupError(answer.status)
        return json.loads(answer.data)


@contextlib.contextmanager
def webhook():
    """A server that remembers what is posted to it."""
    heard: list[dict] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/secret-path", heard
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def deployed(bare_project, port_base, monkeypatch):
    """The project with its servers up, on Postgres and behind a login."""
    bare_project.patch(evaluate={"models": ["dualvla", "base_ft"]})
    text = (REPOSITORY / "prefect.yaml").read_text()
    assert text.count('cron: "0 2 * * *"') == 1
    (bare_project.root / "prefect.yaml").write_text(
        text.replace('cron: "0 2 * * *"', 'cron: "* * * * *"')
    )
    with postgres.database("prefect") as address, webhook() as (hook, heard):
        for name, value in {
            stack.PORT_BASE: str(port_base),
            "PREFECT_API_DATABASE_CONNECTION_URL": address,
            "PREFECT_SERVER_API_AUTH_STRING": LOGIN,
            "PREFECT_API_AUTH_STRING": LOGIN,
            "DUALVLA_WEBHOOK_URL": hook,
        }.items():
            monkeypatch.setenv(name, value)
        try:
            done = bare_project.run("deploy")
            assert done.returncode == 0, done.stdout + done.stderr
            yield bare_project, Server(f"http://127.0.0.1:{port_base}"), address, hook, heard
        finally:
            assert set(stack.down(bare_project.root)) == {"prefect", "s3"}


@contextlib.contextmanager
def worker(project):
    log = project.root / ".dualvla/worker.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "dualvla.cli", "worker", "--pool", "cpu", "--name", "mine"],
            cwd=project.root,
            stdout=stream,
            stderr=stream,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(find, process=None):
    """What `find` finds, once it finds something; pytest's own timeout bounds the wait."""
    while not (found := find()):
        assert process is None or process.poll() is None, "the process ended"
        time.sleep(0.5)
    return found


def test_a_worker_runs_a_deployment_by_its_cron_and_failures_are_told(deployed):
    project, server, address, hook, heard = deployed

    # Nobody without the login, and the database is Postgres.
    with pytest.raises(LookupError, match="401"):
        server("/deployments/filter", {}, login="dualvla:guessed")
    names = {row["name"] for row in postgres.query(address, "select name from deployment")}
    assert {"nightly", "weekly"} <= names
    (nightly,) = server("/deployments/filter", {"deployments": {"name": {"any_": ["nightly"]}}})
    assert nightly["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert nightly["global_concurrency_limit"]["limit"] == 1
    assert nightly["work_pool_name"] == "cpu"

    # The schedule makes runs, and deploying again makes nothing twice.
    def runs(*types):
        wanted = {"deployments": {"name": {"any_": ["nightly"]}}}
        wanted |= {"flow_runs": {"state": {"type": {"any_": list(types)}}}} if types else {}
        return server("/flow_runs/filter", wanted)

    until(lambda: runs("SCHEDULED"))
    before = [server(f"/{what}/filter", {}) for what in ("automations", "deployments")]
    again = project.run("deploy")
    assert again.returncode == 0, again.stdout + again.stderr
    after = [server(f"/{what}/filter", {}) for what in ("automations", "deployments")]
    for old, new in zip(before, after, strict=True):
        assert [one["id"] for one in old] == [one["id"] for one in new]
    assert len(after[0]) == 2

    # A worker executes one of them: as the trainer, who may publish.
    with worker(project) as process:
        done = until(lambda: runs("COMPLETED", "FAILED", "CRASHED"), process)[-1]
    assert done["state_type"] == "COMPLETED", (done, log(project))
    assert done["auto_scheduled"] is True
    assert done["work_pool_name"] == "cpu"
    assert done["parameters"]["profile"] is None
    store = config.load(project.root / "params.yaml").store
    place = client.place(store, project.root)
    published = client.connect(place).list_objects_v2(Bucket=place.bucket, Prefix="retrain/")
    assert published["KeyCount"] > 0
    dvc = (project.root / ".dvc/config.local").read_text()
    assert "profile = trainer" in dvc

    # A failed run is told, and what is told holds no secret.
    said = {"exit": 2, "message": f'bad "{LOGIN.split(":")[1]}" at {hook}'}
    failing = {"TOY": json.dumps({"annotate": said})}
    project.patch(annotate={"questions": 3})
    failed = project.run("retrain", **failing)
    assert failed.returncode == 2, failed.stderr
    told = until(lambda: heard)[0]
    assert told["text"].startswith("retrain default-nogit: BadInput")
    assert told["message"] == 'annotate: bad "[redacted]" at [redacted]'
    assert told["url"].startswith("http")

    # The address of the webhook is a secret of a block: no answer of the server shows it.
    assert hook not in json.dumps(server("/block_documents/filter", {}))


def log(project) -> str:
    return (project.root / ".dualvla/worker.log").read_text()[-3000:]
