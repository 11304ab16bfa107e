"""Train the specialist: data/demonstrations + models/base_vlm -> models/specialist.

It acts on the plain instruction and writes no text; it is the action teacher of distillation.
"""

from dualvla import config, paths
from dualvla.config import Params
from dualvla.stages import runner


def main(params: Params) -> None:
    """Run the stage."""
    import torch

    from dualvla.data import lerobot, mixture
    from dualvla.models import policy
    from dualvla.training import policies, samples

    torch.set_num_threads(params.threads)
    dataset = lerobot.open_dataset(paths.DEMONSTRATIONS)
    vlm, processor = policy.start_from(paths.model("base_vlm"), params.model)
    torch.manual_seed(params.seed)
    shape = policy.PolicyConfig(
        shape=params.model,
        statistics=samples.statistics(dataset),
        convention=dataset.convention,
        reasons=False,
    )
    model = policy.VlaPolicy(vlm, processor, shape)
    held = mixture.held_out(len(dataset.episodes), params.mix.heldout_share, params.seed)
    policies.train(
        "specialist",
        model,
        params.specialist,
        policies.specialist_data(params, dataset, model, held),
        policies.objective(model, language_weight=0.0),
        resolved=config.resolved(params, "seed", "threads", "model", "specialist", "mix"),
        inputs=[paths.DEMONSTRATIONS, paths.model("base_vlm")],
    )


if __name__ == "__main__":
    runner.run(main, trains=True)
