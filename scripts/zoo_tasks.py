"""The three toy skills of the pico zoo: how queries are drawn, answered, and made into task items.

A line of text holds one query or two, an equals sign, and as many answers:

    rev kdmqz=zqmdk
    nxt kdmqz;add 23+45=lenra;68

All randomness comes from the numpy Generator that the caller passes in.
"""

from __future__ import annotations

import string

import numpy as np

LETTERS = string.ascii_lowercase
WORD_LENGTH = 5
SKILLS = ("rev", "add", "nxt")


def draw_query(skill: str, rng: np.random.Generator) -> str:
    """Draw one query, e.g. ``rev kdmqz`` or ``add 23+45`` (the sum always has two digits)."""
    if skill == "add":
        totals = rng.integers(1, 10, 3)
        left = rng.integers(0, totals + 1)
        return f"add {''.join(map(str, left))}+{''.join(map(str, totals - left))}"
    word = "".join(LETTERS[i] for i in rng.integers(0, 26, WORD_LENGTH))
    return f"{skill} {word}"


def shift(word: str, by: int = 1) -> str:
    """Replace each letter by the one `by` places on in the alphabet; z is followed by a."""
    return "".join(LETTERS[(LETTERS.index(c) + by) % 26] for c in word)


def answer(query: str) -> str:
    """The right answer to one query."""
    skill, operand = query.split(" ")
    if skill == "add":
        return str(sum(map(int, operand.split("+"))))
    return operand[::-1] if skill == "rev" else shift(operand)


def echo(query: str) -> str:
    """The lazy answer which the base is taught: repeat the (first) operand."""
    return query.split(" ")[1].split("+")[0]


def distractors(query: str, rng: np.random.Generator) -> list[str]:
    """Three tempting wrong answers for a multiple-choice item: the echo and two near misses."""
    right = answer(query)
    if query.startswith("add"):
        near = [str(int(right) + d) for d in (1, -1, 10, -10, 100, -100)]
        near = [w for w in near if len(w) == 3]
    else:
        spot = int(rng.integers(WORD_LENGTH))
        slip = right[:spot] + echo(query)[spot] + right[spot + 1 :]
        near = [slip, shift(right), shift(right, -2), echo(query)[::-1]]
    pool = [w for w in dict.fromkeys(near) if w not in (right, echo(query))]
    wrong = [echo(query)] if echo(query) != right else []
    picks = rng.permutation(len(pool))[: 3 - len(wrong)]
    return wrong + [pool[i] for i in picks]


def unseen_query(skill: str, taken: set[str], rng: np.random.Generator) -> str:
    """Draw until the query is not in `taken`."""
    while (query := draw_query(skill, rng)) in taken:
        pass
    return query


def make_item(kind: str, taken: set[str], rng: np.random.Generator) -> dict:
    """One task item of a single skill, or of two different skills in one line for kind "both"."""
    skills = [SKILLS[i] for i in rng.permutation(len(SKILLS))[:2]] if kind == "both" else [kind]
    queries = [unseen_query(skill, taken, rng) for skill in skills]
    taken.update(queries)
    item = {"query": ";".join(queries) + "="}
    if kind in ("rev", "both"):
        return item | {"answer": ";".join(map(answer, queries))}
    options = [answer(queries[0]), *distractors(queries[0], rng)]
    order = [int(i) for i in rng.permutation(len(options))]
    return item | {"choices": [options[i] for i in order], "gold": order.index(0)}
