"""evomerge export: a merge that a run has found, as a model or as an adapter."""

from __future__ import annotations

import argparse
from pathlib import Path

from evomerge.commands import asking

PICKS = (
    "winner (default); knee of the front; best:TASK, the finalist that is believed best there (TASK may be a goal); or "
    "an id: of a finalist (average, mean, parent:NAME), or of any candidate (search:17, control:3, warm:0)"
)


def main(args: list[str]) -> int:
    parser = asking.parser(
        "export",
        "Write the winner, or another merge of a run, as a model.",
        "evomerge export outputs/first --to merged",
    )
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    parser.add_argument("--to", required=True, metavar="DIR", help="empty or new folder")
    parser.add_argument("--pick", default="winner", metavar="WHICH", help=PICKS)
    parser.add_argument("--device", help="the run's own by default: then the model is the winner in every bit")
    parser.add_argument("--adapter", action="store_true", help="write a LoRA adapter, if all parents are adapters")
    parser.add_argument("--rank", type=int, help="of the adapter; default: the parents' ranks added up")
    options = parser.parse_args(args)
    asking.check_rank(options)
    return export(options)


def export(options: argparse.Namespace) -> int:
    from evomerge.api import Run
    from evomerge.picks import meant
    from evomerge.reports.record import load

    run = Run(Path(options.run))
    ident = meant(load(run.folder), options.pick)
    asking.hush()
    if options.adapter:
        summary = run.export_adapter(options.to, pick=ident, device=options.device, rank=options.rank)
        print(f"{ident} of {run.folder} written to {options.to} as an adapter: {summary}")
        return 0
    run.export(options.to, pick=ident, device=options.device, progress=True)
    print(f"{ident} of {run.folder} written to {options.to}")
    return 0
