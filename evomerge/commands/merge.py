"""evomerge merge: a recipe built into a model, without a search."""

from __future__ import annotations

from pathlib import Path

from evomerge.commands import asking


def main(args: list[str]) -> int:
    parser = asking.parser("merge", "Build a recipe into a model.", "evomerge merge recipe.yaml --to merged")
    parser.add_argument("recipe", metavar="RECIPE.yaml", help="ours or mergekit's")
    parser.add_argument("--to", required=True, metavar="DIR", help="empty or new folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--adapter", action="store_true", help="write a LoRA adapter, if all parents are adapters")
    parser.add_argument("--rank", type=int, help="of the adapter; default: the parents' ranks added up")
    options = parser.parse_args(args)
    asking.check_rank(options)
    asking.tell_notes(Path(options.recipe))
    if options.adapter:
        return merge_adapter(Path(options.recipe), Path(options.to), options.device, options.rank)
    return merge(Path(options.recipe), Path(options.to), options.device)


def merge_adapter(path: Path, to: Path, device: str, rank: int | None) -> int:
    from evomerge.adapter import export_adapter
    from evomerge.export import model_card, read_recipe
    from evomerge.models.blank import pick_device

    asking.hush()
    recipe, family = read_recipe(path)
    card = model_card(path.stem, recipe, family, "", {})
    summary = export_adapter(recipe, family, to, pick_device(device), card, rank)
    print(f"{path} built into {to} as an adapter: {summary}")
    return 0


def merge(path: Path, to: Path, device: str) -> int:
    from evomerge import api

    asking.hush()
    api.merge(path, to, device=device, progress=True)
    print(f"{path} built into {to}")
    return 0
