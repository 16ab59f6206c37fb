"""Values by tensor name -> one mergekit setting: a number, or filters with a value each, the first match winning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from evomerge.errors import MergeError
from evomerge.models import layout


def setting(values: Mapping[str, float]) -> Any:
    """The shortest setting that a greedy choice finds; exact for every name. values: at least one."""
    default = Counter(values.values()).most_common(1)[0][0]
    left, rules = dict(values), []
    while any(value != default for value in left.values()):
        text, value = _widest(left, default)
        rules.append({"filter": text, "value": value})
        left = {name: v for name, v in left.items() if text not in name}
    return [*rules, {"value": default}] if rules else default


def _widest(left: Mapping[str, float], default: float) -> tuple[str, float]:
    """The text that sets most names off from the default, all to one value; the shortest of equals."""
    texts = {text for name, value in left.items() if value != default for text in _texts(name)}
    found = {text: [value for name, value in left.items() if text in name] for text in texts}
    pure = [text for text, values in found.items() if len(set(values)) == 1]
    if not pure:
        raise MergeError(f"mergekit's filters cannot tell apart {', '.join(left)}: each name is within another.")
    best = min(pure, key=lambda text: (-len(found[text]), len(text), text))
    return best, found[best][0]


def _texts(name: str) -> list[str]:
    """Runs of the words of a name, none beginning with a number: those might be a block's."""
    rest = layout.place(name).rest
    words = rest.split(".")
    runs = [".".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)]
    return [run for run in runs if not run[0].isdigit()]
