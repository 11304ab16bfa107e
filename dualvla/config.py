"""`params.yaml` as frozen models: the only source of parameters.

Every section of `params.yaml` is one model here, every key one documented field with its unit and
range. Unknown keys are refused with the nearest known one, because a mistyped parameter that is
silently ignored costs a night. The price is that a new parameter is written twice, here and in
`params.yaml`; a test keeps the two equal.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dualvla import redaction
from dualvla.errors import UserError

Task = Literal["carrot", "spoon", "stack", "eggplant"]
Arm = Literal[
    "dualvla",
    "base_ft",
    "prune_only",
    "distill_only",
    "random_mask",
    "scene_only",
    "kinematic_only",
    "no_action_teacher",
    "no_reasoning_teacher",
    "specialist_ft",
    "qa_only",
    "decoupled",
]
Model = Literal["specialist", "generalist"] | Arm
Reason = Literal["auto", "always", "never", "every_n"]
SuccessMode = Literal["last_step", "any_step", "early_stop"]
Starts = Literal["official", "shifted", "validation", "instruct_rephrased", "instruct_situated"]
# Budget of a run that trains nothing: the specialist as it is.
UNTRAINED = "start"
SceneLayer = Literal["change_point", "learned"]
LabelSource = Literal["auto", "phases", "people"]
Encryption = Literal["AES256", "aws:kms"]

Budget = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """Base of all sections: immutable, no unknown keys, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Simulation(Section):
    """What every stage that simulates shares."""

    assets: Literal["generated", "official"] = Field(
        description="asset pack: made by this project, or the real meshes under MS_ASSET_DIR"
    )
    image_size: int = Field(ge=32, le=640, description="camera width and height, pixels")
    workers: int = Field(ge=1, le=256, description="simulation processes")
    tasks: tuple[Task, ...] = Field(min_length=1, description="WidowX tasks, in report order")

    @model_validator(mode="after")
    def _no_task_twice(self) -> "Simulation":
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("tasks: a task is listed twice")
        return self


class Demonstrations(Section):
    """Robot episodes: scripted in simulation, or imported."""

    source: Literal["simulation", "rlds", "incoming"] = Field(
        description="where episodes come from; incoming: the shards that `watch` ingested"
    )
    rlds_path: str | None = Field(description="folder of the RLDS data set, for source: rlds")
    per_task: int = Field(ge=1, le=100_000, description="successful episodes kept a task")
    uniform_share: Share = Field(
        description="share of starts uniform in the workspace; the others are jittered official"
    )
    jitter_xy: float = Field(ge=0, le=0.1, description="position jitter of a start, metres")
    jitter_yaw: float = Field(ge=0, le=3.15, description="yaw jitter of a start, radians")
    noise_share: Share = Field(description="share of steps executed with action noise")
    noise_xyz: float = Field(ge=0, le=0.05, description="action noise, metres")
    noise_rotation: float = Field(ge=0, le=0.5, description="action noise, radians")
    kick_share: Share = Field(description="share of steps with a 15 mm kick")
    distractor_share: Share = Field(description="share of episodes with 1 to 3 other things around")


class Annotate(Section):
    """VLA-IT annotations: how many of each kind an episode gets."""

    questions: int = Field(ge=0, le=8, description="question-answer pairs an episode")
    rewrites: int = Field(ge=0, le=3, description="rewritten commands an episode")
    contexts: int = Field(ge=0, le=3, description="created contexts an episode")


class Multimodal(Section):
    """Generated visual question answering over rendered scenes."""

    scenes: int = Field(ge=4, description="rendered scenes for training")
    heldout_scenes: int = Field(ge=1, description="rendered scenes never trained on")
    questions_per_scene: int = Field(ge=1, le=32, description="conversations a scene")


class ModelShape(Section):
    """The vision-language model and the action expert."""

    vlm: str = Field(
        description="`tiny` (trained from scratch) or a Hugging Face image-text-to-text checkpoint"
    )
    width: int = Field(ge=16, le=4096, description="hidden size of the tiny decoder")
    layers: int = Field(ge=1, le=64, description="layers of the tiny decoder")
    heads: int = Field(ge=1, le=64, description="attention heads of the tiny decoder")
    queries: int = Field(ge=1, le=256, description="learned action query tokens")
    chunk: int = Field(ge=1, le=64, description="actions predicted at once")
    expert_width: int = Field(ge=16, le=4096, description="hidden size of the action expert")
    expert_layers: int = Field(ge=1, le=64, description="layers of the action expert")
    flow_steps: int = Field(ge=1, le=100, description="Euler steps at inference")
    proprioception: bool = Field(description="whether the expert reads the arm's state")
    lora_rank: int = Field(
        ge=0, le=1024, description="of adapters on the decoder in policy training; 0: all of it"
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ModelShape":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Optimisation(Section):
    """One training run of the one loop."""

    steps: Count = Field(description="optimiser steps")
    batch_size: Count = Field(description="samples a step")
    learning_rate: float = Field(gt=0, le=1, description="peak of the cosine schedule")
    warmup: Share = Field(description="share of steps with rising learning rate")
    weight_decay: NonNegative = Field(description="AdamW weight decay")
    clip: Positive = Field(description="gradient norm is clipped to this")
    checkpoint_every: Count = Field(description="optimiser steps between two resume points")


class BaseVlm(Optimisation):
    """Base VLM: dense pre-training of the vision stem, then visual question answering."""

    batch_size: Count = Field(description="pictures a step, each with all its questions")
    vision_steps: int = Field(ge=0, description="steps of dense vision pre-training")
    vision_learning_rate: float = Field(gt=0, le=1, description="peak rate of those steps")


class Specialist(Optimisation):
    """Action-only policy, the action teacher."""


class Generalist(Optimisation):
    """Policy with reasoning at every frame and multimodal data: the model to repair."""

    language_weight: NonNegative = Field(description="weight of the language loss in L_VLA")


class Mix(Section):
    """Shares of a training batch."""

    multimodal_share: float = Field(ge=0, lt=1, description="share of samples, multimodal data")
    rewrite_share: Share = Field(description="share of robot samples with a rewritten command")
    context_share: Share = Field(description="share of robot samples with a created context")
    heldout_share: float = Field(gt=0, lt=1, description="share of episodes held out")


class Prune(Section):
    """Dual-layer data pruning (DualVLA, section on data pruning)."""

    scene_layer: SceneLayer = Field(
        description="change_point: nothing is trained; learned: a detector trained on labels"
    )
    labels: LabelSource = Field(
        description="boundaries to learn from and to score by: the simulator's phases, or "
        "people's (labels/boundaries.json); auto: phases where the data set has them"
    )
    tolerance: int = Field(ge=0, le=16, description="frames the two layers may lie apart")
    scene_window: int = Field(ge=1, le=32, description="frames on each side of a boundary score")
    scene_suppression: int = Field(ge=0, le=32, description="local-maximum window, frames")
    scene_quantile: Share = Field(description="quantile of scores above which a peak counts")
    detector_episodes: int = Field(
        ge=1, le=10_000, description="labelled episodes trained on; never more than half of them"
    )
    detector_steps: int = Field(ge=1, le=100_000, description="optimiser steps of the detector")
    detector_window: int = Field(ge=1, le=32, description="frames on each side that it compares")
    detector_threshold: Share = Field(description="probability from which a peak is a boundary")
    detector_suppression: int = Field(ge=0, le=32, description="local-maximum window, frames")
    event_tolerance: int = Field(
        ge=0, le=16, description="frames a boundary may lie off its label and count as found"
    )
    gripper_low: Share = Field(description="share of the episode's range below which it is closed")
    gripper_high: Share = Field(description="share of the episode's range above which it is open")
    keep_free_form: bool = Field(description="keep text of instructions that are no plain command")
    min_retention: Share = Field(description="gate: least share of frames that keep reasoning")
    max_retention: Share = Field(description="gate: greatest share of frames that keep reasoning")

    @model_validator(mode="after")
    def _ordered(self) -> "Prune":
        if self.gripper_low > self.gripper_high:
            raise ValueError("gripper_low is above gripper_high")
        if self.min_retention > self.max_retention:
            raise ValueError("min_retention is above max_retention")
        return self


class Targets(Section):
    """Weights of the action teacher's targets; 0 is off."""

    velocity: NonNegative = Field(0.0, description="flow velocity at the same noise and time")
    latent: NonNegative = Field(0.0, description="action queries, in units of their variance")
    chunk: NonNegative = Field(0.0, description="action chunk that the teacher samples")
    token_kl: NonNegative = Field(0.0, description="action tokens, for a policy that has them")


class Distill(Optimisation):
    """Dual-teacher distillation: L = L_VLA + weight * L_KD (DualVLA, lambda = 0.15)."""

    arms: tuple[Arm, ...] = Field(min_length=1, description="arms to train")
    weight: NonNegative = Field(description="lambda, the weight of L_KD")
    temperature: Positive = Field(description="temperature of the reasoning teacher's KL")
    targets: Targets = Field(description="what the action teacher teaches, with weights")
    language_weight: NonNegative = Field(description="weight of the language loss in L_VLA")
    reasoning_teacher: Literal["generalist", "base_vlm"] = Field(description="who teaches language")
    draws: Count = Field(description="different noise draws a robot frame gets, one an epoch")
    cache: bool = Field(description="whether teachers are asked once, before training")

    @model_validator(mode="after")
    def _something_to_teach(self) -> "Distill":
        if not any(self.targets.model_dump().values()):
            raise ValueError("targets: no target has a weight")
        return self


class Evaluate(Section):
    """Closed-loop evaluation on SimplerEnv."""

    models: tuple[Model, ...] = Field(min_length=1, description="models to evaluate")
    starts: tuple[Starts, ...] = Field(min_length=1, description="sets of fixed starts")
    episodes_per_task: Count | dict[Starts, Count | None] | None = Field(
        description="first starts of each task, or by set of starts; null: all of them"
    )
    success_mode: SuccessMode = Field(description="which of the three recorded modes is reported")
    execute: Count = Field(description="actions of a chunk executed before the next decision")
    reason: Reason = Field(description="when the model writes reasoning before acting")
    reason_every: Count = Field(description="decisions between two texts, for reason: every_n")
    videos_per_task: int = Field(ge=0, description="episodes a task recorded as mp4")
    retries: int = Field(ge=0, le=10, description="repeats of an episode whose worker crashed")


class Benchmark(Section):
    """Held-out visual question answering."""

    questions: int | None = Field(ge=1, description="first questions asked; null: all of them")


class Score(Section):
    """VLA Score (DualVLA, section on evaluation)."""

    judge: Literal["rules", "llm"] = Field(
        description="rules: from simulator state, deterministic; llm: a large model that looks at "
        "pictures, at DUALVLA_JUDGE_URL"
    )
    episodes_per_task: Count | None = Field(
        description="first episodes of each task and set of starts that are rated; null: all"
    )
    frames: int = Field(ge=2, le=64, description="pictures of an episode shown to the llm judge")
    repeats: int = Field(
        ge=1, le=99, description="answers of the llm judge an episode; odd, the median counts"
    )
    knowledge: Annotated[str, Field(pattern=r"^.+@[0-9a-f]{12}$")] | None = Field(
        description="knowledge base of rated episodes, FOLDER@VERSION; null: no examples"
    )
    examples: int = Field(ge=0, le=16, description="nearest rated episodes shown with each")

    @model_validator(mode="after")
    def _has_a_median(self) -> "Score":
        if self.repeats % 2 == 0:
            raise ValueError(f"repeats {self.repeats} is even: a median of them is no rating")
        return self


class Diagnose(Section):
    """Why a model acts as it does: held-out actions after other texts."""

    frames: Count = Field(description="held-out frames looked at, drawn by the seed")


class Ablation(Section):
    """Arms x budgets x seeds of `ablation/dvc.yaml`; they share what lies before the generalist."""

    arms: tuple[Arm, ...] = Field(min_length=1, description="arms to train")
    models: tuple[Model, ...] = Field(
        min_length=1, description="models to evaluate: the generalist and arms"
    )
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(
        min_length=1, description="seeds of training and of the flow noise in evaluation"
    )
    budgets: tuple[Budget, ...] = Field(min_length=1, description="names of the budgets to run")
    factors: dict[Budget, Positive] = Field(
        description="a budget's factor on generalist.steps and distill.steps"
    )
    starts: dict[Starts, Count | None] = Field(
        min_length=1, description="sets of fixed starts, first starts of each task; null: all"
    )
    questions: int | None = Field(ge=1, description="first questions asked; null: all of them")

    @model_validator(mode="after")
    def _consistent(self) -> "Ablation":
        for name in ("arms", "models", "seeds", "budgets"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: one is listed twice")
        for model in self.models:
            if model not in {"generalist", *self.arms}:
                raise ValueError(f"models: {model} is neither the generalist nor one of arms")
        for budget in self.budgets:
            if budget == UNTRAINED or budget not in self.factors:
                raise ValueError(f"budgets: {budget} has no factor, or is reserved")
        return self


class Store(Section):
    """S3: DVC remote and published versions. Keys come from the environment."""

    endpoint: str | None = Field(description="S3 endpoint; null: the local stack's")
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="bucket")
    region: str = Field(min_length=1, description="region")
    versioning: bool = Field(True, description="whether the bucket must keep overwritten objects")
    encryption: Encryption | None = Field(
        "AES256", description="server-side encryption of the bucket and of what is uploaded"
    )


class Promotion(Section):
    """When a candidate may become production; margins are differences to the incumbent."""

    margin: Share = Field(description="success rate that may be lost: bound of the paired interval")
    qa_margin: Share = Field(description="share of right answers that may be lost, likewise")
    score_margin: Share = Field(description="VLA Score that may be lost, likewise")
    canary: Literal["required", "skipped"] = Field(
        description="whether a canary of the version must be recorded and have passed"
    )


class Params(Section):
    """All of `params.yaml`."""

    seed: int = Field(ge=0, lt=2**31, description="seed of every random choice")
    profile: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="name shown in reports")
    threads: int = Field(ge=1, le=256, description="torch threads of a training process")
    simulation: Simulation
    demonstrations: Demonstrations
    annotate: Annotate
    multimodal: Multimodal
    model: ModelShape
    base_vlm: BaseVlm
    specialist: Specialist
    mix: Mix
    generalist: Generalist
    prune: Prune
    distill: Distill
    evaluate: Evaluate
    benchmark: Benchmark
    score: Score
    diagnose: Diagnose
    ablation: Ablation
    store: Store
    promotion: Promotion

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
        trained = {"specialist", "generalist", *self.distill.arms}
        for name in self.evaluate.models:
            if name not in trained:
                raise ValueError(f"evaluate.models: arm {name} is not in distill.arms")
        if self.evaluate.execute > self.model.chunk:
            raise ValueError("evaluate.execute is greater than model.chunk")
        if self.demonstrations.source == "rlds" and not self.demonstrations.rlds_path:
            raise ValueError("demonstrations.rlds_path is needed for source: rlds")
        return self


# Parameters that change how a result is reached, but not what it is.
WITHOUT_EFFECT = {
    "profile",
    "simulation.workers",
    "distill.arms",
    "evaluate.retries",
    "store",
    "promotion",
    *(f"{name}.checkpoint_every" for name in ("base_vlm", "specialist", "generalist", "distill")),
}


def resolved(params: Params, *names: str) -> dict[str, Any]:
    """Plain values of sections or `section.field`s, without those of `WITHOUT_EFFECT`."""
    values = params.model_dump(mode="json")
    chosen: dict[str, Any] = {}
    for name in names:
        section, _, field = name.partition(".")
        value = {field: values[section][field]} if field else values[section]
        if isinstance(value, dict):
            value = {k: v for k, v in value.items() if f"{section}.{k}" not in WITHOUT_EFFECT}
        chosen[section] = value
    return chosen


def load(path: Path | str = "params.yaml") -> Params:
    """Read and check a parameter file.

    Raises:
        UserError: no file, no YAML, an unknown key (with the nearest one) or a bad value.
    """
    return parse(read_yaml(path), where=str(path))


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML mapping; a `UserError` if it is missing or is none."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            "no such parameter file", where=str(path), fix="run in the project's folder"
        )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = " ".join(str(error).split())
        raise UserError(f"not valid YAML: {line}", where=str(path), fix="mend it") from error
    if not isinstance(data, dict):
        raise UserError("not a mapping of parameters", where=str(path), fix="see params.yaml")
    return data


def parse(data: Mapping[str, Any], where: str = "params") -> Params:
    """Check a mapping of parameters; raise one `UserError` that names the first bad key."""
    redaction.require_none(data, where)
    try:
        return Params.model_validate(data)
    except ValidationError as error:
        raise _user_error(error, where) from error


def merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Overlay `patch` on `base`, section by section; lists and scalars are replaced."""
    merged = dict(base)
    for key, value in patch.items():
        old = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _user_error(error: ValidationError, where: str) -> UserError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _fields_beside(first["loc"])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known))}"
        return UserError(f"unknown parameter {key}", where=where, fix=hint)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return UserError(f"parameter {key} is missing", where=where, fix="add it")
    name = f"{key}: " if key else ""
    got = "" if first["type"] == "value_error" else f", got {first['input']!r}"
    return UserError(f"{name}{message}{got}", where=where, fix="mend the value")


def _fields_beside(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = Params
    for part in loc[:-1]:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
