"""evomerge export: a finalist of a run as a model."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from typing import Any

from evomerge.commands import asking


def main(args: list[str]) -> int:
    parser = asking.parser("export", "Write a finalist as a model.", "evomerge export outputs/first --to merged")
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    parser.add_argument("--to", required=True, metavar="DIR", help="empty or new folder")
    parser.add_argument("--pick", default="winner", metavar="ID", help="another finalist, by its id in the report")
    parser.add_argument("--device", help="the run's own by default: then the model is the winner in every bit")
    parser.add_argument("--adapter", action="store_true", help="write a LoRA adapter, if all parents are adapters")
    parser.add_argument("--rank", type=int, help="of the adapter; default: the parents' ranks added up")
    options = parser.parse_args(args)
    asking.check_rank(options)
    if options.adapter:
        return export_adapter(Path(options.run), Path(options.to), options.pick, options.device, options.rank)
    return export(Path(options.run), Path(options.to), options.pick, options.device)


def export_adapter(folder: Path, to: Path, pick: str, device: str | None, rank: int | None) -> int:
    from evomerge import export as step
    from evomerge.adapter import export_adapter as write
    from evomerge.models.blank import pick_device

    recipe, ident = step.finalist(folder, pick)
    asking.hush()
    summary = write(recipe, _family_of_run(folder), to, pick_device(device or step.device_of(folder)), rank)
    print(f"{ident} of {folder} written to {to} as an adapter: {summary}")
    return 0


def export(folder: Path, to: Path, pick: str, device: str | None) -> int:
    from evomerge import export as step
    from evomerge.models.blank import pick_device
    from evomerge.reports import markdown, read

    recipe, ident = step.finalist(folder, pick)
    asking.hush()
    family = _family_of_run(folder)
    step.check_parents(recipe, family)
    card = step.model_card(
        f"{folder.name}: {ident}",
        recipe,
        family,
        markdown.markdown(read.read(folder)),
        {"run": folder.name, "finalist": ident},
    )
    step.export(recipe, family, to, pick_device(device or step.device_of(folder)), card)
    print(f"{ident} of {folder} written to {to}")
    return 0


def _family_of_run(folder: Path) -> Any:
    from evomerge import config, launch

    overrides, config_dirs, cwd = launch.command_of(folder)
    with chdir(cwd):
        return launch.open_parents(config.settings(overrides, config_dirs))
