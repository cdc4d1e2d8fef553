"""The page that shows a prompt token by token, and what steered it."""

import re

import pytest

from self_steering.solvers.readings import steering_map


@pytest.mark.parametrize(
    "odd", ["`", "```", "|", "a|b", "\r\n", "\n\n", "\t", "", " ", "\u200b", "\u2028", "\x1b[0m", "**x**"]
)
def test_any_token_is_one_visible_box_of_the_map(odd: str):
    """Back-ticks, pipes, line ends and invisible characters neither break a box nor vanish in it."""
    page = steering_map([["a", 0, []], [odd, 0, [0]], ["z", 1, []]], ["user"], [])
    lines = page.split("\n")
    boxes = lines[next(i for i, line in enumerate(lines) if line.startswith("**0")) + 2]
    match = re.fullmatch(r"`a` ●`([^`]+)`", boxes)
    assert match is not None
    assert match[1].isprintable()
    assert match[1].strip()
    assert "**1 · generation prompt** · positions 2–2 · 0 of 1 steered" in page


def test_the_map_counts_what_is_steered_in_each_message():
    """Every message has its positions, and how many of its tokens are steered."""
    page = steering_map([["a", 0, []], ["b", 1, [0]], ["c", 1, []], ["d", 2, [0, 1]]], ["user", "tool", "user"], [])
    assert re.findall(r"positions (\d+)–(\d+) · (\d+) of (\d+) steered", page) == [
        ("0", "0", "0", "1"),
        ("1", "2", "1", "2"),
        ("3", "3", "1", "1"),
    ]
