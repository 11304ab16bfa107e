"""Train the generalist: specialist + reasoning at every frame + questions -> models/generalist.

This is the model whose motor skill suffers; distillation starts from it.
"""

import dataclasses

from dualvla import config, paths
from dualvla.config import Params
from dualvla.stages import runner


def main(params: Params, run: str | None = None) -> None:
    """Run the stage; `run` is one of the ablation's."""
    import pandas as pd
    import torch

    from dualvla.models import policy
    from dualvla.training import policies

    torch.set_num_threads(params.threads)
    model = policy.load(paths.model("specialist"))
    policy.require_shape(model, params.model, paths.model("specialist"))
    model.config = dataclasses.replace(model.config, reasons=True)
    mixture = pd.read_parquet(paths.MIXTURE / "mixture.parquet")
    policies.train(
        "generalist",
        model,
        params.generalist,
        policies.mixed_data(params, params.generalist, model, mixture),
        policies.objective(model, params.generalist.language_weight),
        resolved=config.resolved(params, "seed", "threads", "model", "generalist", "mix"),
        inputs=[paths.ANNOTATED, paths.MULTIMODAL, paths.MIXTURE, paths.model("specialist")],
        run=run,
    )


if __name__ == "__main__":
    runner.run(main, trains=True, ablated=True)
