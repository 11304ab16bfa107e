"""Event boundaries that people mark, for data that brings no simulator phases."""
