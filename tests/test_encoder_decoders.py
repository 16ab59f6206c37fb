"""An encoder-decoder from the command line: two stacks, cross-attention with genes of its own, exported and scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration

from evomerge.cli import main
from evomerge.journal import rows
from tests.models_pico import make_tokenizer

SIZES = {"vocab_size": 260, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4}
IDS = {"decoder_start_token_id": 259, "pad_token_id": 259, "eos_token_id": 257}


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("t5")
    config = T5Config(**SIZES, **IDS, num_layers=2, num_decoder_layers=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = T5ForConditionalGeneration(config)
        for name in ("base", "a", "b"):
            model.save_pretrained(root / name)
            make_tokenizer().save_pretrained(root / name)
            with torch.no_grad():
                for weight in model.parameters():
                    weight.add_(0.05 * torch.randn(weight.shape))
    return {name: root / name for name in ("base", "a", "b")}


def test_a_t5_is_searched_exported_and_scores_what_the_journal_says(family, command, tmp_path, capsys):
    tasks = [word for word in command if word.startswith("task.")]
    parents = [f"parents.base={family['base']}", f"parents.models=[{family['a']},{family['b']}]"]
    space = ["space.method=ties", "space.groups=4", "space.parts=[cross_attn]"]
    quick = ["budget.evaluations=3", "control=none", "finalists=1", "threads=1", "device=cpu"]
    assert main(["search", *parents, *tasks, *space, *quick, f"run={tmp_path / 'run'}"]) == 0
    stop = [r for r in rows(tmp_path / "run") if r["row"] == "stop" and r["phase"] == "selection"][-1]
    ident = next(f["id"] for f in stop["finalists"] if f["id"].startswith("search:"))
    assert main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "out"), "--pick", ident]) == 0
    assert isinstance(AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out"), T5ForConditionalGeneration)
    wanted = next(r for r in rows(tmp_path / "run") if r.get("phase") == "test" and r.get("id") == ident)["scores"]
    capsys.readouterr()
    assert main(["score", str(tmp_path / "out"), *tasks, "--json", "device=cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {t: s["score"] for t, s in found.items()} == {t: pytest.approx(sum(v) / len(v)) for t, v in wanted.items()}
