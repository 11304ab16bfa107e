from collections import Counter

import pytest

from dualvla.data import annotations, phrases
from dualvla.objects import BY_NAME, CLAIMS, FACTS, fits
from dualvla.simulation import clutter, instructions, starts
from dualvla.simulation.environments import TASKS

EVERY = instructions.INSTRUCTIONS
CASES = [(task, split) for task in TASKS for split in ("rephrased", "situated")]


def robot_texts() -> set[str]:
    """All that the robot's data may say: commands, rewrites, contexts, reasoning, questions."""
    plain = {spec.instruction for spec in TASKS.values()}
    official = {
        text
        for instruction in plain
        for say in (phrases.rewrites, phrases.contexts)
        for known in (True, False)
        for text in say(phrases.parse(instruction), appearance=known)
    }
    return plain | official | set(phrases.sentences()) | set(annotations.sentences())


def test_there_are_forty_eight_different_ones_in_all_tasks_and_kinds():
    assert len({one.text for one in EVERY}) == len(EVERY) == 48
    assert {len(instructions.of(*case)) for case in CASES} == {6}
    for task in TASKS:
        kinds = Counter(one.kind for one in instructions.of(task, "situated"))
        assert set(kinds) == {"attribute", "function", "relation", "negation"}


def test_no_instruction_is_said_in_the_robots_data():
    said = robot_texts()
    assert len(said) > 1000
    assert not said & {one.text for one in EVERY}


def test_what_is_known_beyond_the_table_is_not_said_in_the_robots_data():
    said = " | ".join(sorted(robot_texts()))
    assert not [claim for claim in FACTS if claim.removeprefix("is ") in said]
    # These claims are what the functions rest on, but for one that the created contexts know too.
    functions = [one for one in EVERY if one.kind == "function"]
    known = [one for one in functions if not {*one.source, *one.target} & FACTS.keys()]
    assert [one.text for one in known] == ["put what a rabbit would eat on the plate"]


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.text)
def test_claims_are_known_and_hold_of_source_and_target(one):
    source, target = starts.PAIRS[one.task]
    for name, claims in ((source, one.source), (target, one.target)):
        assert {claim.replace("is not ", "is ") for claim in claims} <= CLAIMS.keys()
        assert all(fits(name, claim) for claim in claims)
    assert bool(one.source or one.target or one.most) == (one.split == "situated")


@pytest.mark.parametrize(("task", "split"), CASES)
def test_every_start_means_one_source_and_one_target(task, split):
    source, target = starts.PAIRS[task]
    for start in starts.fixed(task, f"instruct_{split}"):
        one = instructions.BY_TEXT[start.instruction]
        others = start.distractors
        assert (one.task, one.split, one.kind) == (task, split, start.kind)
        assert set(one.beside) <= set(others)
        if one.target:
            meant = [n for n in (target, *others) if all(fits(n, c) for c in one.target)]
            assert meant == [target]
        rivals = [n for n in others if all(fits(n, c) for c in one.source)]
        if one.source and one.most is None:
            assert not rivals
        if one.most is not None:
            uv = dict(
                zip((source, target, *others), clutter.seen(task, start.positions), strict=True)
            )
            rivals += [target] if one.source and all(fits(target, c) for c in one.source) else []
            assert rivals
            axis = int(one.most in ("nearest", "farthest"))
            sign = -1 if one.most in ("leftmost", "farthest") else 1
            least = min(sign * (uv[source][axis] - uv[name][axis]) for name in rivals)
            assert least >= instructions.MARGIN


def test_a_blind_guess_at_the_command_would_be_wrong():
    # On the table another movable thing, in the sink a cube, lies beside the source.
    for task, split in CASES:
        for start in starts.fixed(task, f"instruct_{split}"):
            assert any(BY_NAME[name].movable for name in start.distractors)
