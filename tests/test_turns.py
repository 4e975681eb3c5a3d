"""The order of turns."""

from itertools import islice

from trtbert.turns import rounds


def test_the_order_is_turned_round_each_time() -> None:
    seen: list[str] = []

    def turn(name: str) -> str:
        seen.append(name)
        return f"{name}{len(seen)}"

    taken = list(islice(rounds([lambda: turn("a"), lambda: turn("b"), lambda: turn("c")]), 3))
    assert "".join(seen) == "abccbaabc"
    assert taken == [["a1", "b2", "c3"], ["a6", "b5", "c4"], ["a7", "b8", "c9"]]
