"""What every stage's entry point shares: parameters, threads, errors, exit codes.

A stage module is `def main(params, **selection)` plus `run(main)`; it reads and writes paths of
`dualvla.paths` relative to the working directory, which is the DVC workspace.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable

from dualvla import config, files, progress
from dualvla.errors import UserError

MIN_FREE_GIB = 1.0


def run(main: Callable[..., None], *selections: str) -> None:
    """Run a stage from the command line and exit: 0 done, 2 bad input, 1 defect.

    Args:
        main: the stage; called with `Params` and the selections as keywords.
        selections: names of required command-line options, such as `arm` or `model`.
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
    arguments = vars(parser.parse_args())
    try:
        params = config.load(arguments.pop("params"))
        files.require_space(".", MIN_FREE_GIB)
        # Several processes share the cores: an idle OpenMP pool in each would fight for them.
        os.environ.setdefault("OMP_NUM_THREADS", str(params.threads))
        start = time.monotonic()
        main(params, **arguments)
        progress.log(f"{name}: done in {time.monotonic() - start:.1f} s")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        sys.stderr.write(f"error: {error.filename or '.'}: disk full -> free some space\n")
        sys.exit(UserError.exit_code)


DISK_FULL = {28, 122}  # ENOSPC, EDQUOT
