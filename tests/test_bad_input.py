"""Every kind of bad input: one clear message before any expensive work, a non-zero exit, no traceback."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal

import pytest
from safetensors.torch import load_file, save_file

from evomerge.cli import main
from evomerge.journal import Journal, rows

SETTINGS = {  # extra argument -> what the message must hold
    "optimizr=uniform": ["unknown setting 'optimizr'", "Did you mean 'optimizer"],
    "budget.evaluation=5": ["unknown setting 'budget.evaluation'", "budget.evaluations"],
    "space.metod=ties": ["unknown setting 'space.metod'", "space.method"],
    "optimizer=cma": ["unknown optimizer 'cma'", "cma_es"],
    "objective=men": ["unknown objective 'men'", "minimum"],
    "space.method=tie": ["unknown method 'tie'", "Did you mean 'ties'"],
    "space.groups=0": ["space.groups is 0", "1 to 2"],
    "space.groups=99": ["space.groups is 99", "1 to 2"],
    "space.groups=some": ["space.groups is 'some'", "per_layer"],
    "space.groups=[[0,1]]": ["cover block 1 0 times"],
    "space.groups=1.5": ["space.groups is 1.5", "wanted"],
    "space.ranges={weight:[1,0]}": ["space.ranges.weight is [1, 0]", "low < high"],
    "space.ranges={weigth:[0,1]}": ["'weigth'", "Did you mean 'weight'"],
    "space.fixed={densty:1}": ["'densty'", "task_arithmetic"],
    "space.search=[]": ["no knob to search"],
    "space.search=[weight] space.fixed={weight:1}": ["space.search and space.fixed both name weight"],
    "space.fixed={scale:big}": ["space.fixed.scale is 'big'", "wanted a number"],
    "space.fixed={weight:[1,2,3]}": ["space.fixed.weight is [1, 2, 3]", "a list of 2"],
    "space.method=slerp optimizer=cma_es": ["this space has 1", "coarse_to_fine"],
    "objective=weighted_mean objective.weights=[1]": ["1 numbers for 2 tasks"],
    "--config-dir=/no/such/dir": ["--config-dir /no/such/dir is no folder"],
    "space.method=slerp parents.models=[{a}]": ["takes exactly 2 parents, got 1"],
    "space.method=ties parents.base=null": ["Set parents.base"],
    "seed=-1": ["seed is -1"],
    "seed=x": ["seed is 'x'"],
    "finalists=0": ["finalists is 0"],
    "max_failed=2": ["max_failed is 2"],
    "threads=0": ["threads is 0"],
    "device=cudas": ["device 'cudas' is not usable"],
    "dtype=float8": ["unknown dtype 'float8'", "bfloat16"],
    "budget.evaluations=0": ["budget.evaluations is 0"],
    "budget.evaluations=many": ["budget.evaluations is 'many'", "wanted"],
    "budget.evaluations=null": ["the budget has no limit"],
    "budget.seconds=-1": ["budget.seconds is -1"],
    "optimizer.population=2": ["optimizer.population is 2", "at least 3"],
    "optimizer.population=ten": ["optimizer.population is 'ten'"],
    "optimizer.sigma=0": ["optimizer.sigma is 0"],
    "control.points=0": ["points >= 1"],
    "control=none control.points=3": ["'control.points' is no setting of the control"],
    "backend.batch_size=0": ["backend.batch_size is 0"],
    "backend.batch_size=auto": ["backend.batch_size is 'auto'"],
    "backend.max_length=1": ["backend.max_length is 1"],
    "subset=random subset.n=0": ["subset.n is 0"],
    "subset=random subset.n=1": ["subset.n is 1 for 2 tasks"],
    "split.selection=1.5": ["split.selection is 1.5"],
    "split.selection=0.001": ["has no selection items"],
    "split.group=nowhere": ["unknown document field", "nowhere"],
    "subset=kmeans_irt subset.n=8": ["subset=kmeans_irt needs 10 models", "subset=neyman"],
    "subset=fisher subset.n=8": ["subset=fisher needs a leaderboard of 50 models"],
    "subset=neyman subset.uniform=2": ["subset.uniform is 2"],
    "subset.n=many": ["subset.n is 'many'", "wanted"],
    "estimator=merrit": ["unknown estimator 'merrit'", "Did you mean 'merit'"],
    "estimator.covariates=guesses": ["estimator.covariates is 'guesses'", "margins"],
    "estimator=gmp_irt estimator.c=2": ["estimator.c is 2"],
    "race=threshold race.chance=0.9": ["race.chance is 0.9", "below 0.5"],
    "race=halving race.chunks=1": ["race.chunks is 1", "race=none"],
    "calibration.use=[/no/such/answers.npz]": ["/no/such/answers.npz"],
    "calibration.designs=-1": ["calibration.designs is -1"],
    "goals=[sums,letter]": ["unknown task or measure in goals 'letter'", "Did you mean 'letters'"],
    "constraints={sum:{min:0.5}}": ["unknown task or measure in constraints 'sum'"],
    "constraints={sums:{min:0.5,max:0.1}}": ["min 0.5 is above max 0.1"],
    "constraints={sums:{min:0,of:nobody}}": ["unknown reference in constraints.sums.of 'nobody'"],
    "measures={x:{kind:perplexty}}": ["unknown measures.x.kind 'perplexty'", "Did you mean 'perplexity'"],
    "measures={x:{kind:perplexity,file:/no/such.txt}}": ["/no/such.txt"],
    "measures={sums:{kind:perplexity,file:/no/such.txt}}": ["/no/such.txt"],
    "optimizer=ga optimizer.population=2": ["optimizer.population is 2"],
    "task.subtask=nowhere": ["nowhere"],
    "split.bank=0": ["split.bank is 0"],
    "objective=weighted_mean objective.weights=[1,-1]": ["objective.weights is [1, -1]"],
    "objective.min_gap=0": ["objective.min_gap is 0"],
    "finalists=2.5": ["finalists is 2.5", "a whole number"],
    "seed=true": ["seed is True"],
    "optimizer.stages=3": ["optimizer.stages is 3"],
    "optimizer.stages=[a,b]": ["optimizer.stages is"],
    "optimizer.stages=[3,1]": ["optimizer.stages is [3, 1]", "a multiple of the one before"],
    "warm_start=outputs/first": ["warm_start is 'outputs/first'", "a list of recipe files and run folders"],
    "warm_start=[/no/such/run]": ["warm_start names /no/such/run, which is not there"],
    "budget.items=3": ["budget.items is 3, and one candidate answers"],
    "budget.stagnation=0": ["budget.stagnation is 0"],
    "objective=pareto": ["there are 2 goals (sums, letters)", "optimizer=coarse_to_fine maximises one", "nsga2"],
    "objective=pareto optimizer=uniform budget.target=1": ["look at one goal"],
    "objective=pareto optimizer=uniform race=threshold": ["a race can only judge one"],
    "optimizer=m2n2 race=threshold": ["is told one candidate at a time", "race=none"],
    "space=method_choice": ["is for continuous variables", "optimizer=mixed_ga"],
    "space=simplex optimizer=lambda_grid": ["lambda_grid moves one common scale", "optimizer=uniform"],
    "space=parent_choice space.take=3": ["space.take is 3"],
    "space.levels=1": ["space.levels is 1"],
    "experiment=sakana": ["unknown experiment 'sakana'", "Did you mean 'sakana_ps'"],
    "task.names=[sum]": ["unknown task 'sum'"],
    "task.names=null": ["no tasks given"],
    "task.metrics={sums:f2}": ["unknown metric", "f2"],
    "task.include_path=/no/such/dir": ["is no folder"],
    "parents.base=/no/such/model": ["no folder '/no/such/model'"],
    "parents.models=[]": ["no parents given"],
    "parents.models=[nowhere]": ["no folder 'nowhere'"],
    "estimator._target_=no.such.Class": ["cannot be imported"],
    "nonsense": ["'nonsense' is not understood", "KEY=VALUE"],
    "--sedd": ["'--sedd' is not understood"],
}


def refused(args, capsys, code=2):
    capsys.readouterr()
    assert main(args) == code
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and "Traceback" not in printed.err
    return printed.err


@pytest.mark.parametrize("given", SETTINGS)
def test_a_bad_setting_is_told_and_nothing_is_run(given, command, pico, tmp_path, capsys):
    extra = given.format(a=pico["a"]) if "{a}" in given else given
    kept = [c for c in command if not any(c.split("=")[0] == e.split("=")[0] for e in extra.split(" "))]
    message = refused([*kept, *extra.split(" "), f"run={tmp_path / 'run'}"], capsys)
    for part in SETTINGS[given]:
        assert part in message
    assert not (tmp_path / "run" / "journal.jsonl").exists()


COMMANDS = {
    "searhc": (2, ["unknown command 'searhc'", "Did you mean 'search'"]),
    "report /no/such/run": (3, ["is not a run"]),
    "resume /no/such/run": (3, ["no run was started there"]),
    "export /no/such/run --to {tmp}/x": (3, ["is not a run"]),
    "merge /no/such.yaml --to {tmp}/x": (2, ["cannot read the recipe"]),
    "list nothing": (2, ["unknown kind 'nothing'"]),
    "score /no/such/model task.names=[sums]": (2, ["no folder"]),
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_bad_command_is_told(line, tmp_path, capsys):
    code, parts = COMMANDS[line]
    message = refused(line.format(tmp=tmp_path).split(" "), capsys, code)
    assert all(part in message for part in parts)


CHECKPOINTS = {
    "missing config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "pickle only": (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "only pickled weights"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no weights"),
    "corrupt": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 100), "corrupt or incomplete"),
    "NaN": (lambda f: change(f, lambda t: t["model.norm.weight"].fill_(float("nan"))), "NaN or infinite"),
    "shape": (lambda f: change(f, lambda t: t.update({"model.norm.weight": t["model.norm.weight"][:-1]})), "differ at"),
    "tensor": (lambda f: change(f, lambda t: t.pop("model.norm.weight")), "only .* has the tensor"),
}


def change(folder, how):
    tensors = load_file(folder / "model.safetensors")
    how(tensors)
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "model.safetensors")


@pytest.mark.parametrize("damage", CHECKPOINTS)
def test_a_bad_checkpoint_is_told(damage, command, pico, tmp_path, capsys):
    harm, message = CHECKPOINTS[damage]
    bad = shutil.copytree(pico["a"], tmp_path / "bad")
    harm(bad)
    kept = [c for c in command if not c.startswith("parents.models")]
    found = refused([*kept, f"parents.models=[{bad},{pico['b']}]", f"run={tmp_path / 'run'}"], capsys)
    assert re.search(message, found)


def test_an_unwritable_folder_is_told(command, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert "cannot write" in refused([*command, f"run={tmp_path / 'file' / 'run'}"], capsys, 3)


def test_a_second_writer_is_told_who_is_first(command, tmp_path, capsys):
    first = Journal(tmp_path)
    message = refused([*command, f"run={tmp_path}"], capsys, 3)
    assert "is being written by" in message and str(os.getpid()) in message
    first.close()


def test_a_damaged_journal_names_the_line(command, finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "damaged")
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join([*lines[:4], b"{half\n", *lines[5:]]))
    message = refused([*command, "space.method=ties", "budget.evaluations=9", f"run={folder}"], capsys, 3)
    assert "damaged at line 5" in message


def test_an_unfinished_run_has_nothing_to_export(finished, tmp_path, capsys):
    lines = (finished / "journal.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "journal.jsonl").write_text("".join(lines[:6]))
    assert "no winner yet" in refused(["export", str(tmp_path), "--to", str(tmp_path / "x")], capsys, 3)


def test_an_export_never_overwrites(finished, tmp_path, capsys):
    (tmp_path / "precious").write_text("mine")
    assert "is not empty" in refused(["export", str(finished), "--to", str(tmp_path)], capsys)
    assert (tmp_path / "precious").read_text() == "mine"


def test_an_export_that_finds_no_room_says_so(finished, tmp_path, capsys):
    """RLIMIT_FSIZE makes the kernel refuse the bytes, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        assert main(["export", str(finished), "--to", str(tmp_path / "out")]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "Make room, remove the incomplete folder, repeat" in capsys.readouterr().err


def test_an_unknown_finalist_lists_the_known(finished, tmp_path, capsys):
    assert "average" in refused(["export", str(finished), "--to", str(tmp_path), "--pick", "best"], capsys, 3)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: r.pop("slots"), "is no recipe"),
        (lambda r: r.update(extra=1), "unknown key 'extra'"),
        (lambda r: r["outer"][0].update(method="tis"), "unknown method 'tis'"),
        (lambda r: r["outer"][0]["knobs"].update(weigth=1), "weigth"),
        (lambda r: r["outer"][0]["knobs"].update(weight=[1.0]), "1 values for 2 parents"),
        (lambda r: r["parents"][0].update(digest="feedface"), "another version"),
        (lambda r: r["parents"][0].update(path="/gone"), "no folder '/gone'"),
        (lambda r: r["slots"].pop(), "no slots"),
        (lambda r: r["slots"][0].pop("sources"), "not a whole recipe"),
    ],
)
def test_a_bad_recipe_is_told(finished, tmp_path, capsys, edit, message):
    import yaml

    stop = [r for r in rows(finished) if r["row"] == "stop" and r["phase"] == "selection"][-1]
    candidate = next(f["id"] for f in stop["finalists"] if f["id"].startswith("search:"))
    main(["export", str(finished), "--to", str(tmp_path / "out"), "--pick", candidate])
    recipe = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    edit(recipe)
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(recipe))
    assert message in refused(["merge", str(tmp_path / "bad.yaml"), "--to", str(tmp_path / "x")], capsys)


def test_a_task_without_documents_is_told(command, tmp_path, capsys, task_folder):
    folder = shutil.copytree(task_folder, tmp_path / "tasks")
    empty = folder / "empty.jsonl"
    empty.write_text("")
    text = (folder / "sums.yaml").read_text().replace(str(task_folder / "sums_validation.jsonl"), str(empty))
    (folder / "sums.yaml").write_text(text)
    kept = [c for c in command if not c.startswith("task.include_path")]
    message = refused([*kept, f"task.include_path={folder}", f"run={tmp_path / 'run'}"], capsys)
    assert "sums" in message


def test_a_search_whose_candidates_all_fail_says_why_and_keeps_what_was_paid(command, tmp_path, capsys):
    kept = [word for word in command if not word.startswith("control.")]
    line = [*kept, "space.ranges={weight:[1e40,3e40]}", "control=none", f"run={tmp_path}"]
    for _ in range(2):
        capsys.readouterr()
        assert main(line) == 4
        assert "10 of 10 candidates failed in phase search (merge)" in capsys.readouterr().err
    assert sum(r["row"] == "evaluation" for r in rows(tmp_path)) == 4 + 10


def test_a_missing_chat_template_is_told_before_any_candidate(command, pico, tmp_path, capsys):
    bare = {name: shutil.copytree(pico[name], tmp_path / name) for name in ("base", "a", "b")}
    for folder in bare.values():
        (folder / "chat_template.jinja").unlink()
    kept = [word for word in command if not word.startswith("parents.")]
    parents = [f"parents.base={bare['base']}", f"parents.models=[{bare['a']},{bare['b']}]"]
    line = [*kept, *parents, "task.apply_chat_template=true", f"run={tmp_path / 'run'}"]
    assert main(line) == 2
    assert "has no chat template" in capsys.readouterr().err
    assert not (tmp_path / "run" / "journal.jsonl").exists()


def test_debug_shows_the_traceback(command, tmp_path):
    with pytest.raises(Exception, match="seed is -1"):
        main([*command, "seed=-1", f"run={tmp_path}", "--debug"])


def test_a_command_file_that_is_damaged_is_told(finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "command.json").write_text("{")
    assert "command.json" in refused(["resume", str(folder)], capsys, 3)
    json.loads((finished / "command.json").read_text())
