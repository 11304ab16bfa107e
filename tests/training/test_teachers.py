import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_policy import policy
from torch.distributions import Categorical, kl_divergence

from dualvla import config
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


def test_every_arm_has_a_recipe():
    assert set(teachers.RECIPES) == set(get_args(config.Arm))


def batch(model, robots=2, questions=2):
    processor = model.processor
    prompts = [processor.robot_prompt("put carrot on plate")] * robots
    robot = samples.RobotSamples(
        torch.randn(robots, processor.image_tokens, 96),
        torch.randn(robots, 4, 7),
        torch.zeros(robots, 7),
        prompts,
        [processor.reasoning("move down")] * robots,
        True,
    )
    asked = samples.QuestionSamples(
        torch.randn(questions, processor.image_tokens, 96),
        torch.arange(questions).numpy(),
        [processor.question_prompt("what colour is the carrot?")] * questions,
        [processor.answer("orange")] * questions,
    )
    mixer = samples.Mixer(processor, robots + questions, 0.5, 0, robot, asked)
    return mixer(0)


def distilled(arm, *, student_seed=0):
    student, specialist, reasoner = policy(student_seed), policy(1, reasons=False), policy(2)
    made = batch(student)
    recipe = teachers.RECIPES[arm]
    return teachers.distillation(
        losses.run(student, made),
        made,
        action_teacher=specialist if recipe.action_teacher else None,
        reasoning_teacher=reasoner if recipe.reasoning_teacher else None,
        settings=config.load().distill,
    )


def test_an_arm_without_teachers_adds_nothing():
    assert float(distilled("base_ft")["kd"]) == 0


@pytest.mark.parametrize("arm", ["dualvla", "no_action_teacher", "no_reasoning_teacher"])
def test_each_teacher_adds_its_own_terms(arm):
    parts, recipe = distilled(arm), teachers.RECIPES[arm]
    assert ("kd_velocity" in parts) == ("kd_latent" in parts) == recipe.action_teacher
    assert ("kd_language" in parts) == recipe.reasoning_teacher
    assert float(parts["kd"].detach()) > 0


def test_a_student_equal_to_its_teachers_loses_nothing_on_questions():
    student = policy(0)
    made = batch(student)
    outputs = losses.run(student, made)
    parts = teachers.distillation(
        outputs,
        made,
        action_teacher=None,
        reasoning_teacher=policy(0),
        settings=config.load().distill,
    )
    assert float(parts["kd_language"].detach()) == pytest.approx(0, abs=1e-6)


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
