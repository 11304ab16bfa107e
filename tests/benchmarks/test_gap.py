import gap
import pytest
import torch
from tiny_policy import params, policy, processor

from dualvla.models import vision
from dualvla.training import conflict, policies, samples, teachers

PROCESSOR = processor()
TEXTS = ("subtask: grasp the carrot", "subtask: lift the carrot", None, None)


def mixer():
    """Four robot frames a batch, two of them with a text, and one question."""
    draw = torch.Generator().manual_seed(0)
    encoded = torch.randn(4, vision.NUM_TOKENS, 96, generator=draw)
    robot = samples.RobotSamples(
        encoded=encoded,
        actions=torch.randn(4, params().model.chunk, 7, generator=draw).clamp(-1, 1),
        state=torch.zeros(4, 7),
        prompts=[PROCESSOR.robot_prompt("put carrot on plate")] * 4,
        plain=[PROCESSOR.robot_prompt("put carrot on plate")] * 4,
        answers=[PROCESSOR.reasoning(text) for text in TEXTS],
        labelled=True,
    )
    asked = samples.QuestionSamples(
        encoded[:1],
        torch.zeros(1, dtype=torch.long).numpy(),
        [PROCESSOR.question_prompt("what is orange")],
        [PROCESSOR.answer("carrot")],
    )
    return samples.Mixer(PROCESSOR, 5, 0.2, 0, robot, asked)


def objectives(variant):
    """The loss of a plain course without teachers, and a variant's."""
    torch.manual_seed(0)
    model, settings = policy(), params().distill
    plain = policies.objective(model, settings.language_weight)
    return (
        model,
        plain,
        gap.VARIANTS[variant].compute(model, plain, settings, lambda _: teachers.Lesson()),
    )


def on_trunk(model, loss):
    return torch.cat([g.flatten() for g in gap.gradient(loss, conflict.trunk(model))])


@pytest.mark.parametrize("batch", [0, 1, 2])
def test_a_projected_step_never_opposes_the_actions(batch):
    model, plain, projected = objectives("projected")
    found = plain(mixer()(batch))
    moves, words = (on_trunk(model, found[name]) for name in ("flow", "language"))
    after = projected(mixer()(batch))
    changed = on_trunk(model, after["loss"])
    assert after["loss"].item() == pytest.approx(found["loss"].item())
    kept = (changed - moves) @ moves / moves.norm()
    if words @ moves < 0:
        assert abs(kept) < 1e-4 * words.norm()
    else:
        torch.testing.assert_close(changed, moves + words, rtol=1e-4, atol=1e-6)


def test_an_insulated_decoder_learns_from_actions_alone():
    model, plain, insulated = objectives("insulated")
    batch = mixer()(0)
    moves = on_trunk(model, plain(batch)["flow"])
    torch.testing.assert_close(
        on_trunk(model, insulated(batch)["loss"]), moves, rtol=1e-4, atol=1e-6
    )


def test_held_out_losses_are_those_of_the_plain_course():
    _, plain, projected = objectives("projected")
    with torch.no_grad():
        assert projected(mixer()(0))["loss"] == plain(mixer()(0))["loss"]


def test_a_wrong_text_carries_no_language_loss():
    splits = policies.Splits(mixer(), mixer())
    changed = gap.corrupted(splits).train
    wrong = 0
    for step in range(40):
        before, after = splits.train(step).sequences, changed(step).sequences
        rows = (before.labels != -100).any(1) & (after.labels == -100).all(1)
        wrong += int(rows.sum())
        assert not rows[4], "the question is never touched"
        # Silent frames stay silent, and still learn to be.
        assert torch.equal((after.labels != -100).any(1) | rows, (before.labels != -100).any(1))
    assert wrong / (40 * 2) == pytest.approx(gap.CORRUPTED, abs=0.12)


def test_frames_without_their_text_are_taught_too():
    _, plain, both = objectives("both_inputs")
    batch = mixer()(0)
    assert both(batch)["loss"].item() > plain(batch)["loss"].item()
