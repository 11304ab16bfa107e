"""A version made again from git and S3: real git, real DVC, a real S3 server, toy stages."""

import json
import shutil
import subprocess
import sys

import pytest
import typer.testing

from dualvla import config, stack, workspace
from dualvla.errors import UserError
from dualvla.lineage import command, openlineage, reproduction
from dualvla.store import aliases, registry, versions

pytestmark = pytest.mark.slow

IGNORED = "/data/\n/models/\n/results/\n/report/\n.cache/\n.dualvla/\n__pycache__/\n/.dvc/\n"
# A report that says when it was made, as the real one does.
TIMED = '"timings": [{"stage": "prune", "seconds": time.time(), "started": None}]'


def git(root, *arguments):
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command_ = ["git", "-C", str(root), *who, *arguments]
    return subprocess.run(command_, check=True, capture_output=True, text=True).stdout.strip()


def repro(root, *arguments):
    run = [sys.executable, "-m", "dvc", "repro", "-q", *arguments]
    plan = workspace.plan(root)
    subprocess.run(run, cwd=root, env=workspace.environment(plan), check=True)


@pytest.fixture
def published(bare_project, where, s3_root, monkeypatch):
    """A committed toy project whose run was published; `base_ft` was edited before it was."""
    root = bare_project.root
    bare_project.patch(store={"bucket": where.bucket})
    toy = root / "toy.py"
    toy.write_text(toy.read_text().replace('"timings": []', TIMED))
    graph = root / "dvc.yaml"
    graph.write_text(graph.read_text().replace("[toy.py]", "[toy.py, incoming/manifest.json]"))
    shards = root / "incoming/manifest.json"
    shards.parent.mkdir()
    shards.write_text("none in git\n")
    (root / ".gitignore").write_text(IGNORED)
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "add", "-f", ".dvc/config")
    git(root, "commit", "-q", "-m", "toy")
    (root / stack.STATE).mkdir()
    for name in ("s3.pid.json", "credentials"):
        shutil.copy(s3_root / stack.STATE / name, root / stack.STATE)
    shards.write_text("one that came before the run\n")
    repro(root)
    edited = root / "models/base_ft/content.txt"
    edited.write_text("edited after the run\n")
    for model in ("dualvla", "base_ft"):
        commit = git(root, "rev-parse", "--short", "HEAD")
        done = registry.publish(where, root, model, run="retrain/toy", commit=commit)
        name = done.prefix.rpartition("/")[2]
        aliases.move(where, aliases.read(where, model, "candidate"), name)
    monkeypatch.chdir(root)
    return root


def run(function, *arguments):
    app = typer.Typer()
    app.command()(function)
    return typer.testing.CliRunner().invoke(app, [str(one) for one in arguments])


def verdicts(answer):
    rows = answer.stdout.split("\n\n")[0].splitlines()[1:]
    return {row.split("  ")[0] + " " + row.split()[1]: row.rsplit("  ")[-1].strip() for row in rows}


def test_a_version_made_again_is_identical_and_a_planted_difference_is_told(
    published, where, tmp_path, monkeypatch, capfd
):
    again = tmp_path / "again"
    # Killed in the middle, the same command goes on.
    killed = {"annotate": {"kill_once": str(tmp_path / "killed")}}
    monkeypatch.setenv("TOY", json.dumps(killed))
    answer = run(command.reproduce, "dualvla/candidate", "--into", again)
    assert isinstance(answer.exception, reproduction.ReproductionError)
    assert (again / "data/demonstrations").is_dir()
    assert not (again / "report").exists()
    capfd.readouterr()
    answer = run(command.reproduce, "dualvla/candidate", "--into", again)
    assert answer.exit_code == 0, answer.exception
    assert "Stage 'demonstrations' didn't change, skipping" in capfd.readouterr().out
    found = verdicts(answer)
    assert found.pop("report report") == reproduction.TIMES
    assert len(found) == 3 + 2 * 5 + 5
    assert set(found.values()) == {reproduction.SAME}
    assert answer.stdout.endswith(": identical\n")
    assert (again / "incoming/manifest.json").read_text() == "one that came before the run\n"

    # It is not taken for that of another commit.
    head = git(published, "rev-parse", "HEAD")
    git(published, "commit", "-q", "--allow-empty", "-m", "later")
    prefix = registry.prefix_of(where, "dualvla", "candidate")
    with pytest.raises(UserError, match=f"it was made from commit {head[:7]}"):
        reproduction.reproduce(where, prefix, published, again, "HEAD")

    # The published model is not what its stage makes.
    prefix = registry.prefix_of(where, "base_ft", "candidate")
    differing = [
        one for one in reproduction.compare(where, prefix, again) if one.verdict == "DIFFERS"
    ]
    assert [one.what for one in differing] == ["models/base_ft/content.txt"]

    # Another parameter than the published one.
    params = config.read_yaml(again / "params.yaml")
    params["seed"] = 7
    (again / "params.yaml").write_text(json.dumps(params))
    repro(again, "-s", "demonstrations")
    prefix = registry.prefix_of(where, "dualvla", "candidate")
    table = reproduction.table(reproduction.compare(where, prefix, again))
    (line,) = [line for line in table.splitlines() if line.endswith("DIFFERS")]
    assert line.split()[:2] == ["demonstrations", "params"]
    assert '"seed": 7' in line

    other = registry.prefix_of(where, "base_ft", "candidate")
    with pytest.raises(UserError, match="it holds registry/dualvla/"):
        reproduction.reproduce(where, other, published, again)


def test_a_version_and_its_episodes_have_a_lineage_and_its_events_are_published(published, where):
    answer = run(command.lineage, "dualvla/candidate")
    assert answer.exit_code == 0, answer.exception
    told = answer.stdout
    prefix = registry.prefix_of(where, "dualvla", "candidate")
    assert told.startswith(f"dualvla/candidate ({prefix})\n  is      official all 1/2\n")
    assert f"commit {git(published, 'rev-parse', '--short', 'HEAD')}" in told
    assert "[gate pruned passed: 4 passed]" in told
    assert told.index("\ndemonstrations\n") < told.index("\nprune\n") < told.index("\ndistill@")
    number = run(command.lineage, "success.dualvla.official.all", "--of", "dualvla/candidate")
    assert "rate 0.5" in number.stdout
    episode = run(command.lineage, "dualvla/official/carrot/carrot-1", "--of", "dualvla/candidate")
    assert "last_step False" in episode.stdout
    assert "\ndistill@dualvla\n" in episode.stdout
    manifest = versions.require(where, prefix)
    events = json.loads(versions.read(where, prefix, manifest, openlineage.FILE))
    jobs = [event["job"]["name"] for event in events]
    assert jobs[::2] == ["demonstrations", "annotate", "prune", "distill@dualvla", "publish"]
    assert events[-1]["outputs"][0]["name"] == prefix


def test_what_cannot_be_made_again_is_refused_before_work(where, tmp_path):
    (tmp_path / "dvc.lock").write_text("stages: {}\n")
    root, into = tmp_path / "root", tmp_path / "again"
    root.mkdir()
    git(root, "init", "-q")
    for commit, says in (
        ("abc1234-dirty", "its code is in no commit"),
        ("nogit", "its code is in no commit"),
        ("0" * 40, "no commit 000"),
    ):
        prefix = f"retrain/{commit}"
        versions.publish(where, prefix, {"dvc.lock": tmp_path / "dvc.lock"}, {"commit": commit})
        with pytest.raises(UserError, match=says):
            reproduction.reproduce(where, prefix, root, into)
    with pytest.raises(UserError, match="no commit 111"):  # committed later, but not here
        reproduction.reproduce(where, "retrain/nogit", root, into, "1" * 40)
    into.mkdir()
    with pytest.raises(UserError, match="it is there and no reproduction"):
        reproduction.reproduce(where, prefix, root, into)
