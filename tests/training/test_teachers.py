import dataclasses
import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_policy import policy, statistics
from torch.distributions import Categorical, Normal, kl_divergence
from torch.nn import functional

from dualvla import config, conventions
from dualvla.errors import UserError
from dualvla.models import vlm as vlms
from dualvla.models.action_expert import interpolate
from dualvla.training import losses, samples, teachers


@given(st.floats(0.5, 5), st.integers(1, 6))
def test_token_kl_is_the_papers_formula(temperature, rows):
    student, teacher = torch.randn(rows, 11), torch.randn(rows, 11)
    p, q = Categorical(logits=teacher / temperature), Categorical(logits=student / temperature)
    expected = temperature**2 * kl_divergence(p, q).mean()
    assert float(teachers.token_kl(student, teacher, temperature)) == pytest.approx(
        float(expected), rel=1e-4
    )


def test_latents_are_compared_in_units_of_the_teachers_spread():
    teacher = torch.randn(200, 2, 3) * torch.tensor([1.0, 10.0, 100.0])
    student = teacher + teacher.std(0, unbiased=False)
    assert float(teachers.latent_distance(student, teacher)) == pytest.approx(1.0, rel=1e-4)
    assert float(teachers.latent_distance(teacher, teacher)) == 0


# rule of the text, action teacher, reasoning teacher, start, text, questions, streams
ARMS = """
dualvla               both            yes  yes  generalist  yes  yes  no
base_ft               none            no   no   generalist  yes  yes  no
prune_only            both            no   no   generalist  yes  yes  no
distill_only          none            yes  yes  generalist  yes  yes  no
random_mask           random          yes  yes  generalist  yes  yes  no
scene_only            scene_only      yes  yes  generalist  yes  yes  no
kinematic_only        kinematic_only  yes  yes  generalist  yes  yes  no
no_action_teacher     both            no   yes  generalist  yes  yes  no
no_reasoning_teacher  both            yes  no   generalist  yes  yes  no
specialist_ft         none            no   no   specialist  no   no   no
qa_only               none            no   no   specialist  no   yes  no
decoupled             both            yes  yes  specialist  yes  yes  yes
"""


def test_every_arm_keeps_of_the_method_what_it_is_named_for():
    assert set(teachers.RECIPES) == set(get_args(config.Arm))
    for line in ARMS.split("\n")[1:-1]:
        arm, rule, act, reason, start, *rest = line.split()
        found, wanted = teachers.RECIPES[arm], [word == "yes" for word in (act, reason, *rest)]
        assert (found.rule, found.start) == (rule, start), arm
        parts = [found.action_teacher, found.reasoning_teacher]
        assert [*parts, found.text, found.questions, found.streams] == wanted, arm


def batch(model, robots=2, questions=2):
    processor = model.processor
    plain = [processor.robot_prompt("put carrot on plate")] * robots
    robot = samples.RobotSamples(
        torch.randn(robots, processor.image_tokens, 96),
        torch.randn(robots, 4, 7),
        torch.zeros(robots, 7),
        [processor.robot_prompt("orange carrot on plate")] * robots,
        plain,
        [processor.reasoning("move down")] * robots,
        True,
    )
    asked = samples.QuestionSamples(
        torch.randn(questions, processor.image_tokens, 96),
        torch.arange(questions).numpy(),
        [processor.question_prompt("what colour is the carrot?")] * questions,
        [processor.answer("orange")] * questions,
    )
    share = questions / (robots + questions)
    mixer = samples.Mixer(processor, robots + questions, share, 0, robot, asked)
    return mixer(0)


ALL = config.Targets(velocity=1, latent=1, chunk=1)
SETTINGS = config.load().distill


def distilled(arm, targets=SETTINGS.targets):
    student, specialist, reasoner = policy(0), policy(1, reasons=False), policy(2)
    made = batch(student)
    recipe = teachers.RECIPES[arm]
    pair = teachers.Pair(
        specialist if recipe.action_teacher else None,
        reasoner if recipe.reasoning_teacher else None,
    )
    settings = SETTINGS.model_copy(update={"targets": targets})
    lesson = teachers.ask(pair, made, targets)
    return teachers.distillation(losses.run(student, made), made, lesson, settings)


def test_an_arm_without_teachers_adds_nothing():
    assert float(distilled("base_ft")["kd"]) == 0


@pytest.mark.parametrize("arm", ["dualvla", "no_action_teacher", "no_reasoning_teacher"])
def test_each_teacher_adds_its_own_terms(arm):
    parts, recipe = distilled(arm), teachers.RECIPES[arm]
    assert ("kd_velocity" in parts) == ("kd_latent" in parts) == recipe.action_teacher
    assert ("kd_language" in parts) == recipe.reasoning_teacher
    assert float(parts["kd"].detach()) > 0


def test_targets_are_added_by_their_weights_and_0_is_off():
    alone = distilled("no_reasoning_teacher", ALL)
    assert {"kd_velocity", "kd_latent", "kd_chunk"} <= set(alone)
    mixed = distilled("no_reasoning_teacher", config.Targets(velocity=2, chunk=0.5))
    assert set(mixed) == {"kd", "kd_velocity", "kd_chunk"}
    expected = 2 * alone["kd_velocity"] + 0.5 * alone["kd_chunk"]
    assert float(mixed["kd"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_a_student_equal_to_its_teachers_loses_nothing_on_questions():
    student = policy(0)
    made = batch(student)
    lesson = teachers.ask(teachers.Pair(None, policy(0)), made, ALL)
    parts = teachers.distillation(losses.run(student, made), made, lesson, SETTINGS)
    assert float(parts["kd_language"].detach()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("domain", ["robot", "questions"])
def test_a_domain_is_taught_by_its_own_teacher_alone(domain):
    student = policy(0)
    made = batch(student, robots=2, questions=0) if domain == "robot" else batch(student, 0, 2)
    lesson = teachers.ask(teachers.Pair(policy(1), policy(2)), made, ALL)
    assert len(lesson.velocity) == len(lesson.latents) == len(lesson.chunk) == made.robots
    assert bool(len(lesson.logits)) == (domain == "questions")
    parts = teachers.distillation(losses.run(student, made), made, lesson, SETTINGS)
    assert bool(parts["kd_velocity"]) == (domain == "robot")
    assert bool(parts["kd_language"]) == (domain == "questions")


def test_the_action_teacher_reads_the_plain_command_whatever_the_student_is_told():
    teacher = policy(1)
    made = batch(teacher)
    plain = teacher.processor.pad(
        [teacher.processor.robot_prompt("put carrot on plate")] * 2,
        [teacher.processor.reasoning(None)] * 2,
    )
    assert torch.equal(made.plain.input_ids, plain.input_ids)
    assert not torch.equal(
        made.sequences.input_ids[:2, : plain.input_ids.shape[1]], plain.input_ids
    )


def test_the_end_point_of_a_true_velocity_is_the_chunk():
    made = batch(policy(0), robots=4)
    _, velocity = interpolate(made.noise, made.actions[:, None], made.time)
    chunk = made.actions[:, None].expand_as(velocity)
    torch.testing.assert_close(teachers.end_point(velocity, made), chunk, atol=0.01, rtol=0)


def test_a_chunk_that_is_taught_is_what_the_teacher_would_do():
    teacher = policy(1)
    made = batch(teacher)
    said = teachers.ask(teachers.Pair(teacher, None), made, config.Targets(chunk=1))
    latents = teachers.intent(teacher, made)
    context = teacher.expert.context(latents, made.encoded[: made.robots], made.state)
    acted = teacher.expert.sample(context, made.noise[:, 1], teacher.config.shape.flow_steps)
    torch.testing.assert_close(said.chunk[:, 1], acted)


@given(st.floats(0.1, 3))
def test_the_squared_difference_of_velocities_is_a_kl_of_equal_gaussians(deviation):
    ours, theirs = torch.randn(3, 2, 4, 7).double(), torch.randn(3, 2, 4, 7).double()
    kl = kl_divergence(Normal(theirs, deviation), Normal(ours, deviation)).mean()
    expected = functional.mse_loss(ours, theirs) / (2 * deviation**2)
    assert float(kl) == pytest.approx(float(expected), rel=1e-6)


BINS, DIMENSIONS = 32, 7


def discrete_actions(temperature, steps):
    """A head of action tokens, 7 dimensions of 32 bins, taught on frames that it sees often."""
    torch.manual_seed(0)
    features = torch.randn(16, 24)
    teacher, student = (torch.nn.Linear(24, DIMENSIONS * BINS) for _ in range(2))
    wanted = teacher(features).detach().view(-1, BINS) * 3
    optimizer = torch.optim.Adam(student.parameters(), lr=0.03)
    history = []
    for _ in range(steps):
        loss = teachers.token_kl(student(features).view(-1, BINS), wanted, temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    return history, student(features).view(-1, BINS).detach(), wanted


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_token_kl_teaches_a_discrete_action_head(temperature):
    history, taught, wanted = discrete_actions(temperature, 300)
    assert history[-1] < 0.001 * history[0]
    assert torch.equal(taught.argmax(-1), wanted.argmax(-1))
    torch.testing.assert_close(taught.softmax(-1), wanted.softmax(-1), atol=0.02, rtol=0)


@given(st.floats(0.5, 4), st.integers(1, 5))
def test_the_gradient_of_token_kl_is_the_difference_of_probabilities(temperature, rows):
    student = torch.randn(rows, BINS, dtype=torch.double, requires_grad=True)
    teacher = torch.randn(rows, BINS, dtype=torch.double)
    teachers.token_kl(student, teacher, temperature).backward()
    difference = (student / temperature).softmax(-1) - (teacher / temperature).softmax(-1)
    torch.testing.assert_close(student.grad, temperature * difference.detach() / rows)


def test_the_squared_temperature_keeps_the_gradient_as_large():
    """Without it the gradient would fall by T^2; with it, it tends to that of matched logits."""
    sizes = []
    for temperature in (1.0, 10.0, 100.0):
        generator = torch.Generator().manual_seed(0)
        student = torch.randn(64, BINS, generator=generator, requires_grad=True)
        teacher = torch.randn(64, BINS, generator=generator)
        teachers.token_kl(student, teacher, temperature).backward()
        sizes.append(float(student.grad.norm()))
    assert sizes[2] == pytest.approx(sizes[1], rel=0.1)
    assert 0.3 < sizes[1] / sizes[0] < 3


def test_continuous_actions_have_no_tokens():
    with pytest.raises(UserError, match=r"distill\.targets: token_kl compares action tokens"):
        teachers.require_continuous(config.Targets(velocity=1, token_kl=0.5))
    teachers.require_continuous(config.Targets(velocity=1))


def changed(**update):
    teacher = policy(1)
    teacher.config = dataclasses.replace(teacher.config, **update)
    return teacher


SHAPE = policy(0).config.shape
OTHERS = {
    "chunk of the teacher is 3": {"shape": SHAPE.model_copy(update={"chunk": 3})},
    "queries of the teacher is 5": {"shape": SHAPE.model_copy(update={"queries": 5})},
    "action convention translation": {"convention": conventions.WIDOWX_BRIDGE},
    "action statistics max_rotation": {
        "statistics": dataclasses.replace(statistics(), max_rotation=9.0)
    },
}


@pytest.mark.parametrize("says", OTHERS)
def test_a_teacher_that_cannot_be_compared_is_refused(says):
    with pytest.raises(UserError, match=f"models/specialist: {says}"):
        teachers.require_alike(policy(0), changed(**OTHERS[says]), "models/specialist")


def test_a_teacher_that_sees_otherwise_is_refused():
    student, teacher = policy(0), policy(0)
    teachers.require_alike(student, teacher, "models/specialist")
    with torch.no_grad():
        next(vlms.tower(teacher.vlm).parameters()).add_(1)
    with pytest.raises(UserError, match="other vision towers"):
        teachers.require_alike(student, teacher, "models/specialist")


def test_language_loss_counts_answer_tokens_only():
    student = policy(0)
    made = batch(student)
    outputs = losses.run(student, made)
    processor = student.processor
    answers = 2 * len(processor.reasoning("move down")) + 2 * len(processor.answer("orange"))
    assert len(outputs.tokens) == answers
    assert float(losses.language(outputs).detach()) == pytest.approx(
        math.log(len(processor.tokenizer)), rel=0.2
    )
