"""Progress lines and the estimate of the time left."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.board import Board, spell

GRAPH = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
COSTS = dict.fromkeys(GRAPH, 1)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def left(board: Board) -> str:
    return board.line().split("; ")[-1]


def test_first_run_says_that_it_does_not_know():
    assert "unknown" in left(Board(GRAPH, COSTS, 2, {}))


def test_stages_side_by_side_count_once():
    expected = {"a": 60.0, "b": 600.0, "c": 600.0, "d": 60.0}
    assert left(Board(GRAPH, COSTS, 2, expected)) == "about 12 min left"
    assert left(Board(GRAPH, COSTS, 1, expected)) == "about 22 min left"


def test_a_wide_stage_keeps_others_waiting():
    expected = dict.fromkeys(GRAPH, 600.0)
    assert left(Board(GRAPH, {**COSTS, "b": 2}, 2, expected)) == "about 40 min left"


def test_a_stage_without_a_time_counts_as_its_kind():
    graph = {"a@x": (), "a@y": ("a@x",), "b": ("a@y",)}
    board = Board(graph, {}, 2, {"a@x": 100.0, "b": 50.0})
    assert left(board) == "roughly 4 min left"


def test_what_runs_is_counted_off():
    clock = Clock()
    board = Board({"a": ()}, {"a": 1}, 2, {"a": 300.0}, clock)
    board.start("a")
    clock.now = 240.0
    assert board.line() == "0 of 1 stages done, running a; about 60 s left"
    clock.now = 400.0
    assert left(board) == "about 0 s left"
    board.finish("a")
    assert board.line() == "1 of 1 stages done"


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1e4), min_size=1), st.integers(1, 8))
def test_more_cores_never_take_longer_than_one(expected, cores):
    many = Board(GRAPH, COSTS, cores, expected)
    one = Board(GRAPH, COSTS, 1, expected)
    assert many._seconds_left(list(GRAPH)) <= one._seconds_left(list(GRAPH)) + 1e-6


def test_seconds_for_people():
    assert [spell(s) for s in (5, 89, 600, 7800)] == ["5 s", "89 s", "10 min", "2 h 10 min"]
