"""Where a profile runs: in the tree itself, or in a folder of its own under `.dualvla/workspaces/`.

A profile other than the one in `params.yaml` gets a snapshot of the tree's files, merged parameters
and its own `dvc.lock`, so that trying one leaves the tree clean. Snapshots share DVC's cache with
the tree and stay for the next run, which keeps cached stages and checkpoints. The alternative,
overwriting `params.yaml` for a run and putting it back, breaks when the run is killed.
"""

import configparser
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dualvla import config, files, stack
from dualvla.config import Params
from dualvla.errors import UserError

WORKSPACES = Path(".dualvla/workspaces")
RUN_LOCK = Path(".dualvla/run.lock")
REMOTE = "store"
DEFAULT = "default"

# Never part of a snapshot: what runs write, and what belongs to one workspace alone.
OWN = {".dvc", "dvc.lock", "params.yaml", "ablation/dvc.lock"}
MADE = {".git", ".venv", ".dualvla", ".cache", "data", "models", "results", "report"} | {
    f"ablation/{name}" for name in ("models", "results", "report")
}


@dataclass(frozen=True)
class Workspace:
    """A planned place to run: nothing is written until `write`."""

    root: Path  # the project's folder, which holds .dualvla/ and DVC's cache
    folder: Path  # where stages run
    params: Params
    values: Mapping[str, Any]  # the parameters as plain data

    @property
    def profile(self) -> str:
        """The profile's name."""
        return self.params.profile

    @property
    def is_tree(self) -> bool:
        """Whether stages run in the project's folder itself."""
        return self.folder == self.root


def find_root(start: Path | str = ".") -> Path:
    """The folder of `dvc.yaml` at or above `start`; a `UserError` if there is none."""
    start = Path(start).resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return folder
    raise UserError("no dvc.yaml here", where=str(start), fix="run it in the project's folder")


def profiles(root: Path) -> list[str]:
    """Names of the overlays in `params/`."""
    return sorted(path.stem for path in (root / "params").glob("*.yaml"))


def plan(root: Path, profile: str | None = None) -> Workspace:
    """Decide where `profile` runs and check its parameters; None is what `params.yaml` holds.

    Raises:
        UserError: no such profile, an unknown key or a bad value.
    """
    root = root.resolve()
    base = root / "params.yaml"
    values = config.read_yaml(base)
    params = config.parse(values, where="params.yaml")
    if profile is None or profile == params.profile:
        return Workspace(root, root, params, values)
    values = _absolute(overlay(root, profile), root)
    params = config.parse(values, where=f"params/{profile}.yaml on params.yaml")
    return Workspace(root, root / WORKSPACES / profile, params, values)


def overlay(root: Path, profile: str) -> dict[str, Any]:
    """`params.yaml` patched with `params/<profile>.yaml`; a `UserError` if there is no such one.

    Overlays patch the default: where `params.yaml` holds another profile, `params/default.yaml`
    is patched instead.
    """
    if profile not in profiles(root):
        fix = f"choose one of {', '.join(profiles(root))}"
        raise UserError(f"no profile {profile!r}", where="params/", fix=fix)
    base = config.read_yaml(root / "params.yaml")
    if base.get("profile") != DEFAULT:
        base = config.read_yaml(root / "params" / f"{DEFAULT}.yaml")
    return config.merge(base, config.read_yaml(root / "params" / f"{profile}.yaml"))


def _absolute(values: dict[str, Any], root: Path) -> dict[str, Any]:
    """Make paths in parameters hold in another folder too."""
    for section, key in (("demonstrations", "rlds_path"), ("model", "vlm")):
        value = values.get(section, {}).get(key) if isinstance(values.get(section), dict) else None
        if isinstance(value, str) and (root / value).exists():
            values[section] = {**values[section], key: str(root / value)}
    return values


def write(workspace: Workspace, remote: Mapping[str, str]) -> None:
    """Bring a workspace up to date with the tree, and point its DVC at the store.

    Only files that differ are written, so that DVC's record of hashes stays valid.
    """
    if workspace.is_tree:
        _write_remote(workspace.root / ".dvc" / "config.local", remote)
        return
    wanted = {path for path in tree_files(workspace.root) if not _kept_apart(path)}
    for path in sorted(wanted):
        _copy(workspace.root / path, workspace.folder / path)
    for path in _snapshot_files(workspace.folder):
        if path not in wanted:
            (workspace.folder / path).unlink()
    header = f"# params.yaml patched with params/{workspace.profile}.yaml: written, do not edit\n"
    text = header + yaml.safe_dump(dict(workspace.values), sort_keys=False)
    _write_changed(workspace.folder / "params.yaml", text)
    _write_remote(workspace.folder / ".dvc" / "config", remote, cache=workspace.root)


def use(root: Path, profile: str) -> Path:
    """Write `params.yaml` anew from the default and an overlay, keeping the comments."""
    from ruamel.yaml import YAML

    target = root / "params.yaml"
    default = root / "params" / f"{DEFAULT}.yaml"
    if profile not in profiles(root):
        fix = f"choose one of {', '.join(profiles(root))}"
        raise UserError(f"no profile {profile!r}", where="params/", fix=fix)
    if profile == DEFAULT:
        files.write_text(target, default.read_text(encoding="utf-8"))
        return target
    patch = config.read_yaml(root / "params" / f"{profile}.yaml")
    config.parse(config.merge(config.read_yaml(default), patch), where=f"params/{profile}.yaml")
    yaml_ = YAML()
    yaml_.width = 100
    document = yaml_.load(default.read_text(encoding="utf-8"))
    _patch(document, patch)
    with files.replacing(target) as beside:
        yaml_.dump(document, beside)
    return target


def environment(workspace: Workspace) -> dict[str, str]:
    """Variables for a child that runs stages: this Python first, caches shared with the tree."""
    here = str(Path(sys.executable).parent)
    found = {**os.environ, "PATH": os.pathsep.join([here, os.environ.get("PATH", "")])}
    found.setdefault("DUALVLA_CACHE", str(workspace.root / ".cache"))
    # Lines must reach the log as they are printed.
    found["PYTHONUNBUFFERED"] = "1"
    return found | stack.QUIET


@contextlib.contextmanager
def exclusive(folder: Path, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a folder's run lock while no other run holds it.

    Args:
        folder: where stages run.
        wait: takes a line that says whom is waited for; None refuses to wait.

    Raises:
        UserError: another run holds it, and none is waited for.
    """
    path = folder / RUN_LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read().strip() or "?"
            if wait is None:
                fix = f"wait for it (`--when-busy wait`), or stop process {holder}"
                raise UserError("another run is under way", where=str(folder), fix=fix) from error
            wait(f"another run is under way in {folder}: waiting for process {holder}")
            fcntl.flock(stream, fcntl.LOCK_EX)
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def require_idle(folder: Path) -> None:
    """Raise a `UserError` if a run holds `folder`; write nothing."""
    if (folder / RUN_LOCK).is_file():
        with exclusive(folder):
            pass


def _patch(document: Any, patch: Mapping[str, Any]) -> None:
    for key, value in patch.items():
        if isinstance(value, Mapping) and isinstance(document.get(key), Mapping):
            _patch(document[key], value)
        else:
            document[key] = value


def tree_files(root: Path) -> list[Path]:
    """Tracked and new files as git sees them; without git, everything but what runs write."""
    command = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"]
    if (root / ".git").exists() and shutil.which("git"):
        listing = subprocess.run(command, capture_output=True, check=True).stdout.decode()
        found = [Path(name) for name in listing.split("\0") if name]
        return [path for path in found if (root / path).is_file()]
    return _snapshot_files(root)


def _snapshot_files(folder: Path) -> list[Path]:
    found = []
    for here, folders, names in os.walk(folder):
        place = Path(here).relative_to(folder)
        folders[:] = [
            one for one in folders if one != "__pycache__" and not _kept_apart(place / one)
        ]
        found += [place / name for name in names if not _kept_apart(place / name)]
    return found


def _kept_apart(path: Path) -> bool:
    """Whether a relative path is, or lies in, what is no part of a snapshot."""
    return any(one.as_posix() in OWN | MADE for one in (path, *path.parents))


def _copy(source: Path, target: Path) -> None:
    if target.is_file() and source.stat().st_size == target.stat().st_size:
        if source.stat().st_mtime_ns == target.stat().st_mtime_ns:
            return
        if source.read_bytes() == target.read_bytes():
            shutil.copystat(source, target)
            return
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(target) as beside:
        shutil.copy2(source, beside)


def _write_remote(path: Path, remote: Mapping[str, str], cache: Path | None = None) -> None:
    """Set DVC's remote in one of its configuration files; other settings stay."""
    parser = configparser.RawConfigParser()
    if path.is_file():
        parser.read(path, encoding="utf-8")
    section = f"'remote \"{REMOTE}\"'"
    parser[section] = remote
    if cache is not None:
        parser["core"] = {
            **{"no_scm": "true", "analytics": "false", "check_update": "false"},
            "remote": REMOTE,
        }
        parser["cache"] = {"dir": str(cache / ".dvc" / "cache")}
    lines = []
    for name in parser.sections():
        lines += [f"[{name}]", *(f"    {key} = {value}" for key, value in parser[name].items())]
    _write_changed(path, "\n".join(lines) + "\n")


def _write_changed(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        files.write_text(path, text)
