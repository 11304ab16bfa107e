"""What every stage's entry point shares: parameters, threads, errors, exit codes.

A stage module is `def main(params, **selection)` plus `run(main)`; it reads and writes paths of
`dualvla.paths` relative to the working directory, which is the DVC workspace.
"""

import argparse
import os
import shutil
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dualvla import config, costs, files, paths, progress, redaction, runs
from dualvla.errors import UserError

MIN_FREE_GIB = 1.0
LAUNCH = "DUALVLA_LAUNCH"


def run(
    main: Callable[..., None], *selections: str, trains: bool = False, ablated: bool = False
) -> None:
    """Run a stage from the command line and exit: 0 done, 2 bad input, 1 defect.

    Args:
        main: the stage; called with `Params` and the selections as keywords.
        selections: names of required command-line options, such as `arm` or `model`.
        trains: whether several launched processes may share its work; process 0 then keeps the
            books.
        ablated: whether it is a stage of the ablation too, with the option `--run`; `main` gets the
            parameters of that run, and its name as the keyword `run`.
    """
    module = main.__globals__.get("__spec__")
    name = module.name.rsplit(".", 1)[-1] if module else main.__module__
    parser = argparse.ArgumentParser(
        prog=f"python -m dualvla.stages.{name}",
        description=sys.modules[main.__module__].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--params", default="params.yaml", help="parameter file")
    for selection in selections:
        parser.add_argument(f"--{selection}", required=True)
    if ablated:
        parser.add_argument("--run", help="run of the ablation, such as short-1")
    arguments = vars(parser.parse_args())
    try:
        params = config.load(arguments.pop("params"))
        if (chosen := arguments.get("run")) is not None:
            params = runs.resolve(params, chosen)
        files.require_space(".", MIN_FREE_GIB)
        if trains and LAUNCH in os.environ:
            launch(sys.modules[main.__module__])
        if not trains:
            require_alone()
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # of a second, in a log
        # Several processes share the cores: an idle OpenMP pool in each would fight for them.
        os.environ.setdefault("OMP_NUM_THREADS", str(params.threads))
        meter = costs.Meter()
        main(params, **arguments)
        spent = meter.read()
        if not progress.shown():
            return
        forget_resume_points(paths.label(arguments.get("arm", name), chosen))
        write_timing(name, arguments, spent)
        progress.log(f"{name}: done in {spent['seconds']:.1f} s")
    except UserError as error:
        sys.stderr.write(redaction.redact(f"error: {error}\n"))
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        sys.stderr.write(f"error: {error.filename or '.'}: disk full -> free some space\n")
        sys.exit(UserError.exit_code)


def launch(stage: types.ModuleType) -> None:
    """Become `accelerate launch` of the same stage, with the configuration that `LAUNCH` names.

    An environment variable says so, because a changed command would make DVC run the stage again.
    """
    path = Path(os.environ.pop(LAUNCH))
    if not path.is_file():
        fix = "name a file of infra/accelerate"
        raise UserError("no such launch configuration", where=f"{LAUNCH}={path}", fix=fix)
    assert stage.__spec__ is not None
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path)]
    os.execv(sys.executable, [*launcher, "-m", stage.__spec__.name, *sys.argv[1:]])


def require_alone() -> None:
    """Raise a `UserError` in one of several launched processes: each would do all of the work."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        what = f"a stage that does not train was launched in {count} processes"
        raise UserError(what, where="WORLD_SIZE", fix="launch it with --num_processes 1")


def forget_resume_points(run: str) -> None:
    """Remove a finished run's training state, so that a forced repetition trains anew.

    What is given up: a stage killed after its output was written, but before DVC took it, repeats.
    """
    for name in (run, f"{run}_vision"):  # base_vlm trains in two runs
        folder = paths.CHECKPOINTS / name
        if folder.exists():
            shutil.rmtree(folder)


def write_timing(
    stage: str,
    selection: Mapping[str, str | None],
    spent: Mapping[str, Any],
    folder: Path = Path(),
) -> None:
    """Write what this process cost to `.cache/timings/<stage>[@selection].json`, outside DVC.

    The file is named as DVC names the stage: selections are joined by hyphens. Reports read it;
    nothing else may, because it differs from run to run. `spent` is what `costs.Meter` read,
    `folder` the workspace.
    """
    chosen = {key: value for key, value in selection.items() if value is not None}
    timing = {"schema": 1, "stage": stage, "selection": chosen, **spent}
    name = "@".join([stage, *(["-".join(chosen.values())] if chosen else [])])
    files.write_json(folder / paths.TIMINGS / f"{name}.json", timing)


DISK_FULL = {28, 122}  # ENOSPC, EDQUOT
