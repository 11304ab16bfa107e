"""dualvla: retrain reasoning vision-language-action models without losing motor skill.

Importing the package imports nothing heavy: stages import torch, Great Expectations or the
simulator when they need them, so that the command line answers at once.
"""

__version__ = "0.1.0"
