"""Who may import whom: the table of docs/design.md, read from the code's own imports."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent / "evomerge"
FAMILIES = {
    "methods",
    "models",
    "spaces",
    "tasks",
    "backends",
    "subsets",
    "estimators",
    "optimizers",
    "executors",
    "objectives",
    "races",
}
NOUNS = {"types", "errors", "items", "problem", "families"}
MAY = {
    "types": set(),
    "errors": set(),
    "items": {"types"},
    "problem": {"types"},
    "families": {"types", "items"},
    **{family: NOUNS for family in FAMILIES},
    "executors": NOUNS | {"models"},
    "lines": NOUNS,
    "rows": NOUNS,
    "journal": NOUNS | {"lines", "rows"},
    "spaces": NOUNS | {"methods"},
    "recipe_io": NOUNS | {"methods"},
    "engine": NOUNS | {"methods", "models"},
    "build": NOUNS | {"engine", "methods", "models"},
    "backends": NOUNS | {"adapter", "build", "methods", "models"},
    "subsets": NOUNS | {"estimators"},
    "calibration": NOUNS | {"journal", "models", "tasks"},
    "evaluate": NOUNS,
    "fronts": NOUNS,
    "budget": NOUNS,
    "plan": NOUNS | {"budget"},
    "constraints": NOUNS | {"plan"},
    "fitness": NOUNS | {"plan", "calibration", "constraints", "estimators"},
    "scoring": NOUNS | {"journal", "plan"},
    "course": NOUNS | {"journal", "rows", "plan", "budget", "calibration", "estimators", "fitness", "scoring"},
    "batches": NOUNS | {"rows", "calibration", "course", "fitness"},
    "telling": NOUNS | {"rows", "plan", "batches", "course"},
    "stopping": NOUNS | {"budget", "course"},
    "loop": NOUNS | {"journal", "rows", "plan", "budget", "batches", "course", "fitness", "stopping", "telling"},
    "warm": NOUNS | {"journal", "plan", "budget", "fitness", "loop"},
    "selection": NOUNS | {"plan", "constraints", "estimators"},
    "finals": NOUNS | {"journal", "rows", "plan", "fitness", "fronts", "scoring", "selection"},
    "phases": NOUNS | {"journal", "plan", "budget", "calibration", "finals", "fitness", "loop", "scoring", "warm"},
    "reports": NOUNS | {"journal", "rows", "estimators", "fronts"},
    "export": NOUNS | {"journal", "build", "models", "recipe_io", "mergekit_io"},
    "adapter": NOUNS | {"build", "methods", "models", "recipe_io"},
    "mergekit_io": NOUNS | {"build", "methods", "models"},
    "mergekit_evolve": NOUNS | {"overrides"},
    "survey": NOUNS | {"models", "reports"},
    "memory": NOUNS | {"build", "engine", "methods", "models"},
    "overrides": NOUNS,
    "config": NOUNS,
    "progress": set(),
}
#: The wiring: may import any step.
TOP = {
    *("ingredients", "fitting", "identity", "preparation", "launch", "grading", "lineage", "searcher", "picks"),
    *("commands", "cli", "api", "doctor", "sweep"),
}


@cache
def rooms() -> dict[str, set[str]]:
    """Room -> rooms it imports."""
    found: dict[str, set[str]] = {}
    for path in HOUSE.rglob("*.py"):
        parts = path.relative_to(HOUSE).with_suffix("").parts
        if parts[0] in ("__init__", "zoo"):
            continue
        found.setdefault(parts[0], set()).update(imported(path) - {parts[0]})
    return found


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "evomerge":
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evomerge."):
            names.add(node.module.split(".")[1])
    return names


@pytest.mark.parametrize("room", sorted(rooms()))
def test_a_room_imports_only_what_the_table_allows(room):
    if room not in TOP:
        assert rooms()[room] <= MAY[room]


def test_nobody_imports_the_wiring_but_the_wiring():
    users = {room for room, used in rooms().items() if used & TOP}
    assert users <= TOP


def test_members_of_a_family_are_reached_by_address_only():
    for family in FAMILIES - {"methods"}:
        tree = ast.parse((HOUSE / family / "__init__.py").read_text())
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)], family


def test_heavy_libraries_are_imported_in_one_room_each():
    owners = {
        "lm_eval": {"tasks", "backends"},
        "cma": {"optimizers"},
        "pymoo": {"optimizers", "fronts"},
        "sklearn": {"subsets"},
        "py3langid": {"tasks"},
        "hydra": {"config", "overrides", "sweep"},
        "rich": {"progress", "reports", "commands", "api", "sweep", "survey", "doctor"},
        "matplotlib": {"survey", "reports"},
        "peft": set(),
        "ray": {"executors", "sweep"},
        "vllm": {"backends"},
    }
    for library, allowed in owners.items():
        users = {
            path.relative_to(HOUSE).with_suffix("").parts[0] for path in HOUSE.rglob("*.py") if uses(path, library)
        }
        assert users <= allowed, library


def uses(path: Path, library: str) -> bool:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "") or ""]
        if isinstance(node, ast.Import | ast.ImportFrom) and any(n.split(".")[0] == library for n in names):
            return True
    return False
