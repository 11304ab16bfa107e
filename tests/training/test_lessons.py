import dataclasses
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_policy import policy

from dualvla import config, files, paths
from dualvla.errors import UserError
from dualvla.training import lessons, loop, losses, samples, teachers

TARGETS = config.Targets(velocity=1, latent=1, chunk=1)
SETTINGS = config.load().distill.model_copy(update={"targets": TARGETS})
MARKS = {"action": "a" * 16, "reasoning": "b" * 16}
FRAMES, QUESTIONS = 300, 70  # more than a shard, and less


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def mixer(size=8, draws=2, frames=FRAMES, model=None):
    """Batches with prompts and answers of different lengths."""
    processor = (model or STUDENT).processor
    generator = torch.Generator().manual_seed(0)
    width = 96

    def words(i, text):
        return " ".join([text] * (1 + i % 4))

    robot = samples.RobotSamples(
        torch.randn(frames, processor.image_tokens, width, generator=generator),
        torch.randn(frames, 4, 7, generator=generator),
        torch.zeros(frames, 7),
        [processor.robot_prompt(words(i, "put carrot on plate")) for i in range(frames)],
        [processor.robot_prompt("put carrot on plate")] * frames,
        [processor.reasoning(words(i, "move down")) for i in range(frames)],
        True,
    )
    asked = samples.QuestionSamples(
        torch.randn(5, processor.image_tokens, width, generator=generator),
        np.arange(QUESTIONS) % 5,
        [processor.question_prompt(words(i, "what colour?")) for i in range(QUESTIONS)],
        [processor.answer(words(i, "orange")) for i in range(QUESTIONS)],
    )
    return samples.Mixer(processor, size, 0.25, 0, robot, asked, draws=draws)


STUDENT = policy(0)
PAIR = teachers.Pair(policy(1, reasons=False), policy(2))


def prepared(made, steps, pair=PAIR):
    return lessons.prepare(pair, TARGETS, MARKS, {"train": (made, steps)})


def shards():
    return {str(p.relative_to(paths.TEACHERS)): p for p in paths.TEACHERS.rglob("*.safetensors")}


def sums():
    return {name: files.sha256(path) for name, path in shards().items()}


def test_looked_up_and_on_the_fly_give_the_same_loss(single_precision):
    made = mixer(size=32)
    look = prepared(made, 30)
    for step in (0, 7, 13, 29):  # the last ones in the third epoch, at the first draw again
        batch = made(step)
        outputs = losses.run(STUDENT, batch)
        told = [look(batch), teachers.ask(PAIR, batch, TARGETS)]
        found, expected = (teachers.distillation(outputs, batch, t, SETTINGS) for t in told)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert float(found[name].detach()) == pytest.approx(float(value.detach()), abs=1e-5), (
                name
            )


def test_a_run_asks_about_what_it_will_meet_and_no_more():
    prepared(mixer(), 2)
    assert set(shards()) == {
        *(
            f"{'a' * 16}/train-{kind}-000000.safetensors"
            for kind in ("latent", "velocity", "chunk")
        ),
        f"{'b' * 16}/train-hidden-000000.safetensors",
    }
    prepared(mixer(), 200)  # 1200 robot rows: four epochs of two draws
    kinds = [name.split("-")[1] for name in shards()]
    counts = {kind: kinds.count(kind) for kind in kinds}
    assert counts == {"latent": 2, "velocity": 3, "chunk": 3, "hidden": 1}


def test_a_longer_run_and_another_batch_find_what_is_there(monkeypatch):
    prepared(mixer(), 40)
    before = sums()
    asked = []
    write = lessons.Series.write
    monkeypatch.setattr(
        lessons.Series, "write", lambda s, n, c: asked.append((s.name, n)) or write(s, n, c)
    )
    prepared(mixer(size=16), 20)
    assert not asked
    prepared(mixer(), 60)
    assert asked == [("train-latent", 1), ("train-velocity", 1), ("train-chunk", 1)]
    assert sums().items() >= before.items()


def test_more_draws_write_again_only_the_shard_in_which_the_fewer_ended():
    prepared(mixer(draws=1), 200)
    before = sums()
    made = mixer(draws=3)
    look = prepared(made, 200)
    after = sums()
    changed = {name for name in before if after[name] != before[name]}
    last = (FRAMES - 1) // lessons.SHARD
    assert changed == {
        f"{'a' * 16}/train-{k}-{last:06d}.safetensors" for k in ("velocity", "chunk")
    }
    assert len(look(made(199)).velocity) == made.shares[0]


def test_shards_do_not_depend_on_who_asked_first(tmp_path, monkeypatch):
    for steps in (3, 90):
        prepared(mixer(), steps)
    grown = sums()
    monkeypatch.chdir(tmp_path.parent)
    (tmp_path / "afresh").mkdir()
    monkeypatch.chdir(tmp_path / "afresh")
    prepared(mixer(size=32), 23)
    assert sums() == grown


def test_an_interrupted_pass_goes_on_where_it_stopped(monkeypatch):
    write, done = lessons.Series.write, []

    def interrupted(series, shard, compute):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(series.name)
        return write(series, shard, compute)

    monkeypatch.setattr(lessons.Series, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared(mixer(), 60)
    assert len(shards()) == 2
    before = {name: path.stat().st_mtime_ns for name, path in shards().items()}
    monkeypatch.setattr(lessons.Series, "write", write)
    prepared(mixer(), 60)
    assert {name: shards()[name].stat().st_mtime_ns for name in before} == before


def test_the_answers_of_another_teacher_are_refused():
    prepared(mixer(), 2)
    path = next(p for p in shards().values() if "latent" in p.name)
    save_file(load_file(path), path, metadata={"teacher": "c" * 16})
    says = f"these answers are another teacher's, {'c' * 16} instead of {'a' * 16} -> remove"
    with pytest.raises(UserError, match=says):
        lessons.require_own(MARKS["action"])
    with pytest.raises(UserError, match=says):
        prepared(mixer(), 2)
    lessons.require_own(MARKS["reasoning"])


def test_a_truncated_shard_is_refused():
    prepared(mixer(), 2)
    path = next(p for p in shards().values() if "hidden" in p.name)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match="damaged shard"):
        lessons.require_own(MARKS["reasoning"])


def test_folders_of_old_teachers_go():
    for number in range(lessons.KEEP + 2):
        marks = {"action": f"{number:016d}", "reasoning": "b" * 16}
        lessons.prepare(PAIR, TARGETS, marks, {"train": (mixer(), 1)})
    left = {path.name for path in paths.TEACHERS.iterdir() if path.is_dir()}
    assert len(left) == lessons.KEEP
    assert {"b" * 16, f"{lessons.KEEP + 1:016d}"} <= left


def test_answers_outlive_their_files():
    made = mixer()
    look = prepared(made, 60)
    for path in shards().values():
        path.unlink()
    assert look(made(59)).velocity.shape == (6, samples.NOISE_SAMPLES, 4, 7)


def test_an_arm_without_teachers_asks_nobody():
    look = prepared(mixer(), 5, teachers.Pair(None, None))
    assert look(mixer()(0)) == teachers.Lesson()
    assert not paths.TEACHERS.exists()


@given(st.integers(0, 99), st.integers(1, 700), st.integers(1, 3))
def test_a_stream_knows_the_place_of_every_sample(seed, total, epochs):
    stream = lessons.Stream(seed, total, epochs)
    count = -(-total * epochs // lessons.SHARD)
    members = [stream.members(shard) for shard in range(count)]
    rows, draws = (np.concatenate(part) for part in zip(*members, strict=True))
    assert np.array_equal(stream.places(rows, draws), np.arange(total * epochs))
    first = min(48, total * epochs)
    batch, places = loop.sample(seed, 0, first, total), np.arange(first)
    assert np.array_equal(stream.places(batch, places // total), places)


def test_noise_belongs_to_a_frame_and_its_draw():
    one, other = mixer(size=8), mixer(size=16)
    for step in range(0, 150, 10):
        batch = one(step)
        for i in range(batch.robots):
            row, draw = batch.index[i : i + 1].numpy(), batch.draw[i : i + 1].numpy()
            again = other.rows(row, draw, lessons.NONE)
            assert torch.equal(again.noise[0], batch.noise[i])
            assert torch.equal(again.time[0], batch.time[i])
    drawn = {
        (int(i), int(d)): b.noise[n]
        for b in map(one, range(150))
        for n, (i, d) in enumerate(zip(b.index[: b.robots], b.draw, strict=True))
    }
    assert len(drawn) == 2 * FRAMES
    assert len({float(noise.sum()) for noise in drawn.values()}) == 2 * FRAMES


def test_a_run_that_never_repeats_noise_draws_anew_in_every_epoch():
    made = dataclasses.replace(mixer(frames=6), draws=None)
    assert [int(made(step).draw[0]) for step in range(4)] == [0, 1, 2, 3]


HOLDS = """
    import fcntl, json, sys
    from dualvla import paths
    paths.TEACHERS.mkdir(parents=True)
    with (paths.TEACHERS / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        print("locked", flush=True)
        sys.stdin.readline()
        print(json.dumps([p.name for p in paths.TEACHERS.iterdir()]), flush=True)
"""


def test_one_run_asks_at_a_time(monkeypatch):
    command = [sys.executable, "-c", textwrap.dedent(HOLDS)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as other:
        assert other.stdout.readline() == "locked\n"
        said = []

        def log(text):
            if "another run is asking them, waiting" in text:
                other.stdin.write("go on\n")
                other.stdin.flush()
            said.append(text)

        monkeypatch.setattr(lessons.progress, "log", log)
        prepared(mixer(), 1)
        assert json.loads(other.stdout.readline()) == [".lock"]
    assert any("waiting" in text for text in said)
    assert shards()
