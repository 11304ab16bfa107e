"""Short trainings whose losses and weights one and two processes are compared by.

Run as a module it trains under whatever launched it and writes `<out>/<name>.json` and
`<out>/<name>.safetensors`; in single precision, because in bf16 a row rounds by what it is batched
with.
"""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_policy import params, policy
from torch import nn

from dualvla import config, files
from dualvla.training import loop, policies, samples, sharding, teachers

STEPS = 6
BATCH = 7  # does not halve: five robots and two questions, or (`few`) four and one
TEXTS = ["move down", "subtask: grasp the carrot ; move: down", "orange", None]


def mixer(model, seed=0, batch=BATCH, asked_of=2):
    """Texts of many lengths, so that each process has another number of tokens."""
    processor, draw = model.processor, torch.Generator().manual_seed(seed)
    robots, questions = 9, 4
    robot = samples.RobotSamples(
        torch.randn(robots, processor.image_tokens, 96, generator=draw),
        torch.randn(robots, 4, 7, generator=draw),
        torch.zeros(robots, 7),
        [processor.robot_prompt("put carrot on plate" if i % 2 else "put") for i in range(robots)],
        [processor.robot_prompt("put carrot on plate")] * robots,
        [processor.reasoning(TEXTS[i % len(TEXTS)]) for i in range(robots)],
        True,
    )
    several = samples.QuestionSamples(
        torch.randn(questions, processor.image_tokens, 96, generator=draw),
        torch.arange(questions).numpy(),
        [processor.question_prompt("what colour is the carrot?")] * questions,
        [processor.answer("orange " * i) for i in range(questions)],
    )
    return samples.Mixer(processor, batch, asked_of / batch, seed, robot, several)


def generalist(model):
    """Language and flow losses."""
    return policies.objective(model, 1.0)


def distillation(model):
    """And both teachers'."""
    specialist, reasoner = (policy(seed).requires_grad_(False) for seed in (1, 2))
    pair, settings = teachers.Pair(specialist, reasoner), config.load().distill

    def teach(batch):
        return teachers.ask(pair, batch, settings.targets)

    return policies.objective(model, 1.0, (settings, teach))


# By name the losses, and rows and questions of a batch: of two processes one has no question of 1.
OBJECTIVES = {
    "generalist": (generalist, BATCH, 2),
    "distillation": (distillation, BATCH, 2),
    "few": (distillation, 5, 1),
}


def fit(name: str, folder: Path, stop_at: int | None = None) -> tuple[nn.Module, dict]:
    """The trained model and its metrics; `stop_at` is a step at which the run breaks off."""
    model = policy(0)
    objective, *shares = OBJECTIVES[name]
    train, heldout = mixer(model, 0, *shares), mixer(model, 1, *shares)

    def batch(step):
        if step == stop_at:
            raise KeyboardInterrupt
        return train(step)

    run = loop.Run("test", batch, objective(model), lambda: [heldout(0), heldout(1)], folder)
    settings = params().specialist.model_copy(update={"checkpoint_every": 2})
    return model, loop.fit(model, run, settings, steps=STEPS)


def main(out: Path) -> None:
    """Train every objective, and one that is broken off and goes on."""
    torch.set_num_threads(1)
    made = {name: fit(name, out / "points" / name) for name in OBJECTIVES}
    try:
        fit("generalist", out / "points/resumed", stop_at=3)
    except KeyboardInterrupt:
        made["resumed"] = fit("generalist", out / "points/resumed")
    for name, (model, metrics) in made.items():
        if not sharding.rank():
            files.write_json(out / f"{name}.json", metrics | {"processes": sharding.world()})
            state = {k: v.detach().clone() for k, v in model.state_dict().items()}
            save_file(state, out / f"{name}.safetensors")


def pretend_fsdp() -> None:
    """Let accelerate shard parameters over processes without a GPU, which it would not."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


if __name__ == "__main__":
    loop.precision = lambda: "no"
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        pretend_fsdp()
    main(Path(sys.argv[1]))
