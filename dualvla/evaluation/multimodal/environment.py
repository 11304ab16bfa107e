"""The environment that lmms-eval lives in, apart from this project's own.

`infra/lmms_eval/setup.sh` builds it and stamps it with the hash of its pins, so that a changed pin
and a half-built environment are both found before anything runs.
"""

import hashlib
import os
import subprocess
from pathlib import Path

from dualvla.errors import UserError

FOLDER = "DUALVLA_LMMS_EVAL"  # environment variable: another place for it
ROOT = Path(__file__).parents[3]
SETUP = ROOT / "infra/lmms_eval/setup.sh"
PINS = ("requirements.txt", "constraints.txt")
STAMP = ".ready"
# Without the heavy imports, which happen in the run anyway: what breaks only then is found there.
PROBE = "from importlib.metadata import version as v; v('lmms-eval'), v('torch'), v('datasets')"
FIX = "bash infra/lmms_eval/setup.sh"


def folder() -> Path:
    """Where it lies, built or not."""
    named = os.environ.get(FOLDER)
    return Path(named) if named else ROOT / ".dualvla/lmms-eval"


def pins() -> str:
    """SHA-256 of its pinned versions, as the setup stamps it."""
    text = b"".join((SETUP.parent / name).read_bytes() for name in PINS)
    return hashlib.sha256(text).hexdigest()


def python() -> Path:
    """Its Python.

    Raises:
        UserError: not built, built from other pins, or broken.
    """
    place = folder()
    found, stamp = place / "bin/python", place / STAMP
    if not stamp.is_file():
        raise UserError("lmms-eval is not set up", where=str(place), fix=FIX)
    if stamp.read_text(encoding="utf-8").strip() != pins():
        raise UserError("lmms-eval was set up from other pins", where=str(place), fix=FIX)
    try:
        subprocess.run([found, "-P", "-c", PROBE], check=True, capture_output=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        raise broken() from error
    return found


def broken() -> UserError:
    """The error for an environment that was built and does not work any more."""
    place = folder()
    fix = f"rm -r {place} && {FIX}"
    return UserError("lmms-eval's environment is broken", where=str(place), fix=fix)
