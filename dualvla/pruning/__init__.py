"""Dual-layer data pruning: which frames keep their reasoning text."""
