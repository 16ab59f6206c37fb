"""Tensors said with one method for all: a mergekit YAML has no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from evomerge.errors import MergeError
from evomerge.mergekit_io.dialect import ALIKE, DIALECTS
from evomerge.mergekit_io.said import Said


def common_method(groups: Iterable[Mapping[str, Said]]) -> str:
    """The method that says all, by tensor name. Raises MergeError with two tensors that no method can both say."""
    named = [(name, said) for group in groups for name, said in group.items()]
    methods = sorted({said.method for _, said in named})
    if methods == ["linear"] and all(len(alone(said)) == 1 for _, said in named):
        return "passthrough"
    for method in methods:
        if all(_speaks(method, said) for _, said in named):
            _check_one_base(method, named)
            return method
    first, second = (next(name for name, said in named if said.method == m) for m in methods[:2])
    raise MergeError(
        f"'{first}' is merged by {methods[0]} and '{second}' by {methods[1]}; a mergekit YAML has one method. Searches "
        "with space.mask_all=true use one method for all tensors."
    )


def _check_one_base(method: str, named: Sequence[tuple[str, Said]]) -> None:
    with_base, without = ([name for name, said in named if said.base == base] for base in (True, False))
    if with_base and without:
        raise MergeError(
            f"'{with_base[0]}' is merged by {method} as differences and '{without[0]}' as it is; in a mergekit YAML "
            "base_model says that for all tensors. Search with space.fixed.differences=true, or false."
        )


def _speaks(method: str, s: Said) -> bool:
    """Whether the method gives the same tensor: where no entries are dropped, several come to the same."""
    return s.method == method or (not s.drops and any({method, s.method} <= kin for kin in ALIKE))


def in_method(method: str, s: Said) -> Said:
    """The same in the words of the common method."""
    if method == "passthrough":
        return replace(s, method=method, shared={}, own={"scale": alone(s)})
    names = {p.name for p in DIALECTS[method].parameters}
    shared = {name: value for name, value in s.shared.items() if name in names}
    return replace(s, method=method, shared=shared)


def alone(s: Said) -> dict[int, float]:
    """The factors of the parents that count."""
    counted = s.weight if len(s.weight) == 1 else {p: w for p, w in s.weight.items() if w != 0}
    return dict.fromkeys(counted, 1.0) if s.shared.get("normalize") else dict(counted)
