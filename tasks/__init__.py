"""Prefect tasks: run one DVC stage, show its results, publish. No method lives here."""
