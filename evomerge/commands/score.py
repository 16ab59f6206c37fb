"""evomerge score: a model or a recipe on all items of a split."""

from __future__ import annotations

import json
from collections.abc import Sequence

from evomerge.commands import asking


def main(args: list[str]) -> int:
    parser = asking.parser(
        "score",
        "Score a model or a recipe on all items of a split.",
        "evomerge score merged 'task.names=[t]' task.include_path=DIR",
    )
    parser.add_argument("model", metavar="MODEL|RECIPE.yaml", help="an adapter, too, with parents.base=BASE")
    parser.add_argument("--split", default="test", choices=("search", "selection", "test"))
    parser.add_argument("--json", action="store_true")
    options, overrides = parser.parse_known_args(args)
    asking.refuse_options(overrides)
    return score(options.model, options.split, overrides, as_json=options.json)


def score(model: str, split: str, overrides: Sequence[str], *, as_json: bool = False) -> int:
    """Scores per task with standard errors, as a table or JSON."""
    from evomerge import config, grading

    cfg = config.settings(overrides)
    asking.hush()
    scores = grading.score(cfg, model, split)
    if as_json:
        print(json.dumps(scores, indent=1))
        return 0
    print(f"{'task':<28} {'metric':<20} {'score':>8} {'stderr':>8} {'items':>6}")
    for name, s in scores.items():
        print(f"{name:<28} {s['metric']:<20} {s['score']:>8.4f} {s['stderr']:>8.4f} {s['items']:>6}")
    return 0
