"""evomerge convert: a recipe of mergekit's as ours, or ours as mergekit's."""

from __future__ import annotations

from pathlib import Path

from evomerge.commands import asking
from evomerge.errors import EvomergeError
from evomerge.lines import write_whole


def main(args: list[str]) -> int:
    parser = asking.parser(
        "convert",
        "A mergekit YAML as a recipe of ours (gradients and filters resolved), or ours as mergekit's.",
        "evomerge convert mergekit.yml recipe.yaml",
    )
    parser.add_argument("recipe", metavar="RECIPE.yaml", help="ours or mergekit's")
    parser.add_argument("to", metavar="TO.yaml", help="new file, in the other's words")
    options = parser.parse_args(args)
    asking.tell_notes(Path(options.recipe))
    return convert(Path(options.recipe), Path(options.to))


def convert(path: Path, to: Path) -> int:
    from evomerge.export import read_recipe
    from evomerge.mergekit_io import is_mergekit, to_mergekit
    from evomerge.recipe_io import to_yaml

    if to.exists():
        raise EvomergeError(f"{to} exists. Name a new file.")
    asking.hush()
    recipe, family = read_recipe(path)
    locations = {p.digest: p.name for p in family.all}
    text = to_yaml(recipe, locations) if is_mergekit(path) else to_mergekit(recipe, family, locations)
    write_whole(to, text)
    print(f"{path} written as {to}")
    return 0
