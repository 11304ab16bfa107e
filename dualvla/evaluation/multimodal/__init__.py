"""Eight published multimodal benchmarks, scored by lmms-eval in an environment of its own."""
