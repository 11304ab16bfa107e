"""Prefect flows. A flow body reads like the paper's figure; the work is in tasks/ and dualvla/."""
