"""What a model was trained by: versions that travel in its folder."""

import platform
from importlib.metadata import version

PACKAGES = ("dualvla", "torch", "transformers", "accelerate", "peft", "numpy")


def fingerprint() -> dict[str, str]:
    """Versions of Python and of the packages that decide about numbers."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
