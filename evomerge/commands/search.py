"""evomerge search: a run from settings; the same line again resumes."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from evomerge.commands import asking
from evomerge.commands.report import show_report
from evomerge.errors import ConfigError

HELP = """\
usage: evomerge search [KEY=VALUE ...] [--config-dir DIR] [--force]
       evomerge search -m KEY=A,B,C ... run=DIR
       evomerge search --from-mergekit-evolve FILE.yml [KEY=VALUE ...]

Settings, each with its default in conf/ (evomerge list settings):
  parents       parents=pico | parents.base=PATH 'parents.models=[A,B]'    folders, hub ids (ORG/NAME@REVISION), LoRAs
                parents.vocabulary=equal | base | union                   where tokenizers differ
  tasks         'task.names=[t1,t2]' task.include_path=DIR task.num_fewshot=5 task.apply_chat_template=true
  space         space=weights | method_choice | parent_choice | simplex | mergekit
                space.method=ties space.groups=3 'space.parts=[self_attn,mlp]' space.ranges.weight='[0,1]'
  optimizer     optimizer=coarse_to_fine | cma_es | bipop | mixed_ga | nsga2 ...   (evomerge list optimizer)   seed=1
                'warm_start=[recipe.yaml,outputs/first]'                  recipes and runs to begin from
  budget        budget.evaluations=100 budget.items=50000 budget.seconds=3600 budget.target=0.9 budget.stagnation=60
  items         subset=neyman | random | stratified | everything ...     subset.n=120 split.selection=0.4
                estimator=merit | post_strat | mean ...     race=none | threshold | halving
                calibration.use=[FILE.npz] calibration.designs=8          what models answered before
  objective     objective=gap_closed | cvar | minimum | pareto ...     'goals=[TASK,MEASURE]'
                'measures.NAME={kind: perplexity, file: TEXT}'   kinds: divergence, length, refusal, language, callable
                'constraints.NAME={min: -0.02, of: best_parent}'
  control       control=lambda_grid | uniform | sobol | none
  preset        experiment=sakana_ps | mergekit_evolve | m2n2 ...    published searches (evomerge list experiment)
  machine       device=auto dtype=auto threads=2 backend.batch_size=32 backend.device_map=auto
  workers       executor=local | processes | ray_cluster   executor.workers=8 executor.timeout=600
  answers by    backend=hf | hf_lora | vllm | vllm_lora | api        (docs/scaling.md)
  folder        run=DIR      journal.jsonl, events.jsonl and report.md are written there

  -m, --multirun     a run for every combination of the values given with commas, each in its own folder of run=DIR;
                     the same line again resumes them all, finished ones are left alone. Elsewhere than here, one
                     after the other: hydra/launcher=slurm | gpus | submitit_local | submitit_slurm | ray
  --from-mergekit-evolve FILE.yml   take parents, space and tasks from a file of mergekit-evolve; what follows wins
  --config-dir DIR   look for your own config files in DIR, too
  --force            start a new lineage in a folder that holds another run, warm-started from its winner
  --cfg              print the composed settings and stop

exit codes: 0 done, 2 bad input, 3 journal, 4 search failed, 130 Ctrl-C, 75 SIGTERM (a preempted job: requeue it)

examples
  evomerge search run=outputs/first
  evomerge search space.method=ties space.groups=3 budget.evaluations=300 run=outputs/ties
  evomerge search -m optimizer=cma_es,uniform seed=1,2,3 run=outputs/sweep
  evomerge search --from-mergekit-evolve evolve.yml task.include_path=tasks run=outputs/evolved
"""


def main(args: list[str]) -> int:
    if "-h" in args or "--help" in args:
        print(HELP, end="")
        return 0
    parser = argparse.ArgumentParser(prog="evomerge search", add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", action="append", default=[])
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--cfg", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--from-mergekit-evolve", metavar="FILE.yml")
    options, overrides = parser.parse_known_args(args)
    asking.refuse_options(overrides)
    asking.interrupt_on_term()
    if options.from_mergekit_evolve:
        overrides = [*_taken_over(Path(options.from_mergekit_evolve)), *overrides]
    if options.multirun:
        return _sweep(overrides, options)
    return search(overrides, options.config_dir, force=options.force, show=options.cfg)


def _taken_over(path: Path) -> list[str]:
    """Settings from a file of mergekit-evolve; what was taken over, left out and mended goes to stderr."""
    from evomerge.mergekit_evolve import settings_of

    overrides, notes = settings_of(path)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return overrides


def _sweep(overrides: Sequence[str], options: argparse.Namespace) -> int:
    from evomerge.sweep import run as sweep

    if options.force or options.cfg:
        raise ConfigError("--force and --cfg are for one run, -m is for many. Leave one out.")
    asking.hush()
    return sweep.run(overrides, options.config_dir)


def search(
    overrides: Sequence[str], config_dirs: Sequence[str] = (), *, force: bool = False, show: bool = False
) -> int:
    """Search, write report.md, print the report; on Ctrl-C and SIGTERM print the command that resumes."""
    from evomerge import config

    cfg = config.settings(overrides, config_dirs)
    if show:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(cfg, resolve=True), end="")
        return 0
    asking.hush()
    folder = Path(str(cfg.run))
    return _run(overrides, config_dirs, folder, force)


def _run(overrides: Sequence[str], config_dirs: Sequence[str], folder: Path, force: bool) -> int:
    from evomerge import api

    try:
        api.search(*overrides, run=folder, config_dirs=config_dirs, force=force, progress=True)
    except KeyboardInterrupt as e:
        return asking.stopped(e, f"evomerge resume {shlex.quote(str(folder))}")
    return show_report(folder)
