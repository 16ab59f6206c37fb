"""evomerge report: what a run found."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from evomerge.commands import asking
from evomerge.errors import JournalError
from evomerge.lines import write_whole


def main(args: list[str]) -> int:
    parser = asking.parser(
        "report", "What a run found: scores on fresh items, paired differences, costs.", "evomerge report outputs/first"
    )
    parser.add_argument("run", metavar="RUN", help="folder of a run, or of a sweep")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args(args)
    from evomerge.reports import sweep

    if sweep.is_sweep(Path(options.run)):
        from evomerge.sweep.run import tell

        return tell(Path(options.run), as_json=options.json)
    return show_report(Path(options.run), as_json=options.json)


def show_report(folder: Path, *, as_json: bool = False) -> int:
    """Print the report and write it to RUN/report.md."""
    from rich.console import Console

    from evomerge.reports import markdown, read, table

    found = read.read(folder)
    if as_json:
        print(json.dumps(read.as_json(found), indent=1, allow_nan=False))
        return 0
    table.show(found, Console(width=None if sys.stdout.isatty() else 110))
    try:
        write_whole(folder / "report.md", markdown.markdown(found))
    except JournalError as e:  # somebody else's run may be read where it may not be written
        print(f"note: report.md is not renewed: {e}", file=sys.stderr)
    return 0
