"""Closed-loop evaluation, its statistics, and the VLA Score."""
