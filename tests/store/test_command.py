"""`dualvla models` on a real S3 server."""

import published_runs
import pytest
import typer.testing
import yaml
from published_runs import MODEL

from dualvla import config, stack
from dualvla.errors import UserError
from dualvla.store import aliases, client, command, registry


@pytest.fixture
def models(bare_project, s3_root, monkeypatch):
    """A function that runs `dualvla models ...` in a project whose stack is the tests'."""
    state = bare_project.root / stack.STATE
    state.mkdir()
    for name in ("s3.pid.json", "credentials"):
        (state / name).write_bytes((s3_root / stack.STATE / name).read_bytes())
    (state / "credentials").chmod(0o600)
    bare_project.patch(
        store={"bucket": "c" + "".join(c for c in bare_project.root.parent.name if c.isalnum())},
        promotion={"score_margin": 0.1},
    )
    monkeypatch.chdir(bare_project.root)

    def run(*arguments: str) -> str:
        answer = typer.testing.CliRunner().invoke(command.app, list(arguments))
        if answer.exception is not None:
            raise answer.exception
        return answer.stdout

    return run


@pytest.fixture
def published(models, bare_project, tmp_path, monkeypatch):
    """Two versions of a model, the second one much worse."""
    where = client.place(config.load(bare_project.root / "params.yaml").store, bare_project.root)
    client.check(where, create=True)
    names = []
    for name, lost in (("one", 0.0), ("two", 0.4)):
        folder = published_runs.build(
            tmp_path / name, monkeypatch, weights=name.encode(), lost=lost
        )
        done = registry.publish(where, folder, MODEL, run=f"retrain/{name}", commit="abc1234")
        names.append(done.prefix.rpartition("/")[2])
    aliases.move(where, aliases.read(where, MODEL, "candidate"), names[1])
    return names


def test_from_a_list_to_production_and_back(models, published, tmp_path, bare_project):
    one, two = published
    assert models("promote", MODEL, one, "--check").startswith(f"# {MODEL} {one} may become")
    assert "production" not in models("list")
    assert f"production of {MODEL} is {one}" in models("promote", MODEL, one[:6])
    lines = models("list").splitlines()
    assert [line.split()[1] for line in lines] == published
    assert lines[0].endswith("abc1234        production")
    assert lines[1].endswith("abc1234        candidate")
    assert "official 70.5 % (60.7 to 78.8, n 95)" in lines[0]

    shown = yaml.safe_load(models("show", MODEL))
    assert (shown["version"], shown["run"]) == (f"registry/{MODEL}/{one}", "retrain/one")
    assert [move["to"] for move in shown["history"]] == [one]
    assert models("show", MODEL, "candidate", "--card").startswith("---\nlicense: apache-2.0")
    assert "success official all: 67/95 -> 40/95" in models("diff", MODEL, "production", two)
    assert models("diff", MODEL, one, "production") == "nothing differs\n"
    assert "files are what was published" in models("verify", MODEL)

    out = tmp_path / "out"
    assert "verified" in models("pull", MODEL, "--out", str(out))
    assert (out / "model/model.safetensors").read_bytes() == b"one"

    with pytest.raises(UserError, match=f"{MODEL} {two} may not become production") as caught:
        models("promote", MODEL)
    assert caught.value.exit_code == 3
    with pytest.raises(UserError, match="no earlier version"):
        models("rollback", MODEL)
    assert len(list((bare_project.root / ".dualvla/decisions" / MODEL).glob("*.json"))) == 2


def test_an_unset_alias_and_an_unknown_model_are_one_line(models, published):
    for arguments, says in (
        (("show", MODEL), "production is not set"),
        (("pull", MODEL, "0123"), "no version 0123"),
        (("verify", "nobody", "0123"), "publish one"),
    ):
        with pytest.raises(UserError, match=says):
            models(*arguments)


@pytest.mark.parametrize("name", ["list", "show", "pull", "diff", "verify", "promote", "rollback"])
def test_every_command_has_help_with_an_example(name):
    answer = typer.testing.CliRunner().invoke(command.app, [name, "--help"])
    assert f"Example: dualvla models {name}" in answer.stdout
