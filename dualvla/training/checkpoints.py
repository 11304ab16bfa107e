"""Resume points: weights, optimiser state and step, written beside and renamed.

They live outside DVC under `.cache/checkpoints/<stage>/<fingerprint>/`. The fingerprint covers the
parameters, the inputs' content and the code that decides what is learned from them (model,
training, data, pruning and the stages), so that a change never resumes a stale run. There is no RNG
state to keep: every random draw is a pure function of (seed, step).
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dualvla import files, paths
from dualvla.training import sharding

PACKAGE = Path(__file__).resolve().parent.parent
CODE = [PACKAGE / name for name in ("models", "training", "data", "pruning", "stages")]
MODULES = [PACKAGE / f"{name}.py" for name in ("conventions", "poses")]


def fingerprint(parameters: Mapping[str, Any], inputs: Sequence[Path]) -> str:
    """Hash of parameters, input files or folders, code and torch's version; 16 hex digits."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    digest.update(torch.__version__.encode())
    for file in [*(p for folder in CODE for p in sorted(folder.glob("*.py"))), *MODULES]:
        digest.update(file.read_bytes())
    for path in inputs:
        digest.update(files.sha256(path).encode())
    return digest.hexdigest()[:16]


def folder(stage: str, mark: str) -> Path:
    """Folder of a run's resume point; those of the stage's other fingerprints are removed."""
    home = paths.CHECKPOINTS / stage
    files.recover(home / mark)
    for other in home.glob("*"):
        if other.name != mark:
            shutil.rmtree(other, ignore_errors=True)
    return home / mark


def save(
    where: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Write the resume point `where`; `state` is plain data such as step and history.

    Every process calls it and process 0 writes.
    """
    trained = {
        name: sharding.whole(p.detach()).contiguous()
        for name, p in _named(model)
        if p.requires_grad
    }
    moments = {
        f"{i}.{name}": sharding.whole(value.detach()).contiguous()
        for i, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }
    if sharding.rank():
        return
    with files.replacing(where) as beside:
        beside.mkdir(parents=True)
        save_file(trained, beside / "weights.safetensors")
        save_file(moments, beside / "optimizer.safetensors")
        files.write_json(beside / "state.json", state)


def restore(
    where: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Load a resume point into model and optimiser; its state, or None if there is none."""
    if not (where / "state.json").is_file():
        return None
    weights = load_file(where / "weights.safetensors")
    with torch.no_grad():
        for name, parameter in _named(model):
            if parameter.requires_grad:
                parameter.copy_(sharding.spread(weights[name], parameter))
    entries: dict[int, dict[str, Any]] = {}
    optimised = [p for group in optimizer.param_groups for p in group["params"]]
    for key, value in load_file(where / "optimizer.safetensors").items():
        index, name = key.split(".", 1)
        parameter = optimised[int(index)]
        laid = sharding.spread(value, parameter) if value.shape == parameter.shape else value
        entries.setdefault(int(index), {})[name] = laid
    optimizer.load_state_dict(
        {"state": entries, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    state: dict[str, Any] = files.read_json(where / "state.json")
    return state


def _named(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters by their names without those of wrappers that recompute activations."""
    for name, parameter in model.named_parameters():
        yield name.replace("_checkpoint_wrapped_module.", ""), parameter
