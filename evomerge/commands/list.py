"""evomerge list: the names that can be chosen."""

from __future__ import annotations

from evomerge.commands import asking
from evomerge.errors import ConfigError, unknown


def main(args: list[str]) -> int:
    parser = asking.parser("list", "Names that can be chosen.", "evomerge list methods")
    parser.add_argument(
        "kind", metavar="KIND", help="methods, measures, settings, or a config group such as optimizer, subset"
    )
    return list_names(parser.parse_args(args).kind)


def list_names(kind: str) -> int:
    """Print what can be chosen, one line each."""
    from evomerge import config

    groups = sorted(p.name for p in config.CONF.iterdir() if p.is_dir() and p.name != "hydra")
    group = next((g for g in (kind, kind.removesuffix("s"), kind.removesuffix("es")) if g in groups), None)
    if kind in ("methods", "method"):
        _list_methods()
    elif kind in ("measures", "measure"):
        _list_measures()
    elif kind == "settings":
        print("\n".join(config.known_keys()))
    elif group:
        for name in config.choices(group):
            print(f"{name:<16} {config.command_of(group, name)}")
    else:
        raise ConfigError(unknown("kind", kind, ["methods", "measures", "settings", *groups]))
    return 0


def _list_methods() -> None:
    from evomerge.commands import list_methods

    print("\n".join(list_methods.lines()))


def _list_measures() -> None:
    """Kinds of measures, with what the module of each says of itself."""
    import ast
    from pathlib import Path

    from evomerge import tasks
    from evomerge.tasks.measures import KINDS

    (folder,) = map(Path, tasks.__path__)
    for kind, address in KINDS.items():
        module = folder / f"{address.split('.')[-2]}.py"
        first = (ast.get_docstring(ast.parse(module.read_text())) or "").splitlines()[0]
        print(f"{kind:<16} {first}")
