"""Parents of unequal vocabularies, from the command line: refused, or searched and exported under a policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.cli import main
from evomerge.journal import rows

ROWS = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def parents(pico, tmp_path_factory) -> dict[str, Path]:
    """Two experts that learned tokens of their own: one shared, each one alone, in another order, one padded."""
    root = tmp_path_factory.mktemp("vocabularies")
    added = {"a": ["<both>", "<only-a>"], "b": ["<only-b>", "<both>"]}
    return {
        name: grown(pico[name], root / name, tokens, rows=264 - 2 * (name == "b")) for name, tokens in added.items()
    }


def grown(source: Path, folder: Path, tokens: list[str], *, rows: int) -> Path:
    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModelForCausalLM.from_pretrained(source)
    tokenizer.add_tokens(tokens, special_tokens=True)
    model.resize_token_embeddings(rows, mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[260:] = torch.randn(
            rows - 260, 32, generator=torch.Generator().manual_seed(3)
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def line(command, parents) -> list[str]:
    kept = [word for word in command if not word.startswith("parents.models")]
    return [*kept, f"parents.models=[{parents['a']},{parents['b']}]", "budget.evaluations=3"]


@pytest.fixture(scope="module", params=["base", "union"])
def run(request, line, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / request.param
    assert main([*line, f"parents.vocabulary={request.param}", f"run={folder}"]) == 0
    return folder


def picked(run: Path, to: Path, ident: str) -> Path:
    assert main(["export", str(run), "--to", str(to), "--pick", ident]) == 0
    return to


def test_unequal_vocabularies_are_refused_with_both_values_and_the_way_out(line, tmp_path, capsys):
    assert main([*line, f"run={tmp_path}"]) == 2
    message = capsys.readouterr().err
    assert "rows 260 in" in message and "264 in" in message and "parents.vocabulary=base" in message


def test_the_export_holds_each_parents_rows_by_token(run, parents, pico, tmp_path):
    out = picked(run, tmp_path / "out", "parent:b")
    merged, ids = load_file(out / "model.safetensors")[ROWS], AutoTokenizer.from_pretrained(out).get_vocab()
    own, base = load_file(parents["b"] / "model.safetensors")[ROWS], load_file(pico["base"] / "model.safetensors")[ROWS]
    theirs = AutoTokenizer.from_pretrained(parents["b"]).get_vocab()
    assert len(merged) == (260 if run.name == "base" else 263)
    for token, row in ids.items():
        if token in theirs:
            torch.testing.assert_close(merged[row], own[theirs[token]])
        elif row < 260:
            torch.testing.assert_close(merged[row], base[row])
    assert ("<only-b>" in ids) == (run.name == "union")


def test_the_export_loads_and_scores_what_the_journal_says(run, command, tmp_path, capsys):
    stop = [r for r in rows(run) if r["row"] == "stop" and r["phase"] == "selection"][-1]
    ident = next(f["id"] for f in stop["finalists"] if f["id"].startswith("search:"))
    out = picked(run, tmp_path / "out", ident)
    assert AutoModelForCausalLM.from_pretrained(out).config.vocab_size == (260 if run.name == "base" else 263)
    wanted = next(r for r in rows(run) if r.get("phase") == "test" and r.get("id") == ident)["scores"]
    tasks = [word for word in command if word.startswith("task.")]
    for model in (out, out / "recipe.yaml"):
        capsys.readouterr()
        assert main(["score", str(model), *tasks, "--json", "device=cpu"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert {t: s["score"] for t, s in found.items()} == {
            t: pytest.approx(sum(v) / len(v)) for t, v in wanted.items()
        }


def test_a_recipe_of_one_parent_keeps_the_tokens_of_all(run, tmp_path):
    """A union has every parent's tokens, whether or not the recipe blends them."""
    out = picked(run, tmp_path / "out", "parent:b")
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    assert recipe["vocabulary"] == run.name and ("tokens_of" in recipe) == (run.name == "union")
    assert main(["merge", str(out / "recipe.yaml"), "--to", str(tmp_path / "again")]) == 0
    one, two = (load_file(folder / "model.safetensors") for folder in (out, tmp_path / "again"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (
        AutoTokenizer.from_pretrained(out).get_vocab() == AutoTokenizer.from_pretrained(tmp_path / "again").get_vocab()
    )


def test_the_policy_is_part_of_the_run(run, line, capsys):
    other = "union" if run.name == "base" else "base"
    assert main([*line, f"parents.vocabulary={other}", f"run={run}"]) == 3
    assert "vocabulary" in capsys.readouterr().err


def test_a_chat_template_is_lent_where_the_base_has_none(line, pico, tmp_path, capsys):
    import shutil

    bare = shutil.copytree(pico["base"], tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    kept = [word for word in line if not word.startswith("parents.base")]
    more = [
        "parents.vocabulary=base",
        f"parents.base={bare}",
        "task.apply_chat_template=true",
        f"run={tmp_path / 'run'}",
    ]
    assert main([*kept, *more]) == 0
    assert "has no chat template" in capsys.readouterr().err
    out = picked(tmp_path / "run", tmp_path / "out", "average")
    assert (out / "chat_template.jinja").read_text() == (pico["a"] / "chat_template.jinja").read_text()
