"""Make the pico zoo: one tiny base, three experts fine-tuned from it, and the data of four tasks.

    python scripts/make_zoo.py              # writes into evomerge/zoo/pico
    python scripts/make_zoo.py --to DIR     # writes elsewhere
    python scripts/make_zoo.py --quick      # a few steps of everything: checks the script, not the zoo

Everything is drawn from fixed seeds and computed on one CPU thread, so two runs on the same machine
with the same library versions give the same bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import shutil
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import zoo_tasks as zt
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PICO = Path(__file__).resolve().parents[1] / "evomerge" / "zoo" / "pico"
SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]
CHARACTERS = ["\n"] + [chr(c) for c in range(32, 127)]
TOKEN_ID = {token: i for i, token in enumerate(SPECIAL + CHARACTERS)}
TASKS = ("pico_rev", "pico_add", "pico_nxt", "pico_both")
SIZES = {"validation": 200, "test": 300}
BATCH = 64
# The base first learns to answer rightly, then to be lazy: in the second phase it is shown the right answer
# to a query only with its skill's probability here, and otherwise the echo.
LEAD_STEPS, LAZY_STEPS, BASE_RATE = 900, 500, 3e-3
BASE_RIGHT = {"rev": 0.25, "add": 0.25, "nxt": 0.1}
ALWAYS = dict.fromkeys(zt.SKILLS, 1.0)
EXPERT_STEPS, EXPERT_RATE = 250, 5e-4
SEARCH_TRIALS = 100


def write_tokenizer(folder: Path) -> None:
    """Save a tokenizer with one token per printable ASCII character, which adds nothing of its own."""
    core = Tokenizer(models.WordLevel(TOKEN_ID, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    names = {f"{name.strip('<>')}_token": name for name in SPECIAL}
    fast = PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **names)
    fast.save_pretrained(folder)
    check_tokenizer(folder)


def check_tokenizer(folder: Path) -> None:
    """Text must survive a round trip, and splitting a text anywhere must not change its tokens."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "".join(CHARACTERS) + "  a ,b .\n\n n't "
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    for cut in range(len(text) + 1):
        assert tokenizer(text[:cut])["input_ids"] + tokenizer(text[cut:])["input_ids"] == ids


def new_model(seed: int) -> LlamaForCausalLM:
    """A four-layer Llama of about 380,000 parameters with freshly drawn weights."""
    config = LlamaConfig(
        vocab_size=len(TOKEN_ID),
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        pad_token_id=TOKEN_ID["<pad>"],
        bos_token_id=TOKEN_ID["<bos>"],
        eos_token_id=TOKEN_ID["<eos>"],
    )
    model = LlamaForCausalLM(config).to(torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.05, generator=generator)
    return model


def text_line(skills: list[str], right: dict[str, float], taken: set[str], rng: np.random.Generator) -> str:
    """One training line; each answer is the right one with its skill's probability, else the echo."""
    queries = [zt.unseen_query(skill, taken, rng) for skill in skills]
    answers = [zt.answer(q) if rng.random() < right[s] else zt.echo(q) for q, s in zip(queries, skills, strict=True)]
    return ";".join(queries) + "=" + ";".join(answers) + "\n"


def to_tensors(lines: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded token ids and labels; only the answers and the newline are learned."""
    width = max(map(len, lines))
    ids = np.full((len(lines), width), TOKEN_ID["<pad>"])
    labels = np.full((len(lines), width), -100)
    for row, line in enumerate(lines):
        tokens = [TOKEN_ID[c] for c in line]
        start = line.index("=") + 1
        ids[row, : len(tokens)] = tokens
        labels[row, start : len(tokens)] = tokens[start:]
    return torch.from_numpy(ids), torch.from_numpy(labels)


def train(model, name: str, draw_line, steps: int, rate: float) -> None:
    """AdamW with a short warm-up and a linear decay, on freshly drawn lines."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    started = time.monotonic()
    model.train()
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(step / 50, 1.0) * max(1.0 - step / steps, 0.05)
        ids, labels = to_tensors([draw_line() for _ in range(BATCH)])
        logits = model(input_ids=ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps:
            print(f"{name}: step {step}/{steps}, loss {loss:.3f}, {time.monotonic() - started:.0f} s", flush=True)
    model.eval()


def train_base(taken: set[str], lead: int, lazy: int) -> LlamaForCausalLM:
    """Pretrain on lines of one or two queries of any skills: at first answered rightly, later mostly by echoes."""
    model, rng, lines = new_model(seed=0), np.random.default_rng(1), itertools.count()

    def draw_line() -> str:
        skills = [zt.SKILLS[i] for i in rng.integers(0, len(zt.SKILLS), rng.integers(1, 3))]
        right = ALWAYS if next(lines) < lead * BATCH else BASE_RIGHT
        return text_line(skills, right, taken, rng)

    train(model, "base", draw_line, lead + lazy, BASE_RATE)
    return model


def train_expert(model: LlamaForCausalLM, skill: str, taken: set[str], steps: int) -> None:
    """Fine-tune every weight of `model` on lines of one or two queries of this skill, answered rightly."""
    rng = np.random.default_rng([2, zt.SKILLS.index(skill)])

    def draw_line() -> str:
        return text_line([skill] * int(rng.integers(1, 3)), ALWAYS, taken, rng)

    train(model, skill, draw_line, steps, EXPERT_RATE)


def save(model: LlamaForCausalLM, folder: Path) -> None:
    """Write checkpoint and tokenizer, readable by everybody."""
    model.save_pretrained(folder)
    write_tokenizer(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


def write_tasks(folder: Path) -> set[str]:
    """Write the items of every task and split, and return all their queries."""
    rng, taken = np.random.default_rng(3), set()
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for split, size in SIZES.items():
        for task in TASKS:
            items = [zt.make_item(task.removeprefix("pico_"), taken, rng) for _ in range(size)]
            text = "".join(json.dumps(item) + "\n" for item in items)
            (folder / "data" / f"{task}_{split}.jsonl").write_text(text, encoding="utf-8")
    if folder != PICO / "tasks":
        for path in [*(PICO / "tasks").glob("*.yaml"), PICO / "tasks" / "pico_data.py"]:
            shutil.copy(path, folder)
    check_tasks(folder / "data")
    return taken


def check_tasks(folder: Path) -> None:
    """No single query may occur twice, within a split or between splits."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    queries = [q for line in lines for q in json.loads(line)["query"].rstrip("=").split(";")]
    assert len(queries) == len(set(queries)), "a query occurs twice"


class Scorer:
    """Scores one model object, whose weights may be changed between calls, with lm-evaluation-harness."""

    def __init__(self, model: LlamaForCausalLM, folder: Path) -> None:
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        tokenizer = AutoTokenizer.from_pretrained(folder / "base")
        self.lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=128)
        self.manager = TaskManager(include_path=str(folder / "tasks"), include_defaults=False)
        self.tasks = {split: self.load(split) for split in SIZES}

    def load(self, split: str) -> dict:
        tasks = self.manager.load(list(TASKS))["tasks"]
        for task in tasks.values():
            task.config.test_split = "test" if split == "test" else None
        return tasks

    def __call__(self, split: str, limit: int | None = None) -> np.ndarray:
        from lm_eval.evaluator import evaluate

        with contextlib.redirect_stderr(io.StringIO()):  # the harness draws progress bars for every call
            report = evaluate(self.lm, self.tasks[split], limit=limit, bootstrap_iters=0, log_samples=False)["results"]
        scores = [report[t].get("acc,none", report[t].get("exact_match,none")) for t in TASKS]
        return np.array(scores)


class Merger:
    """Task arithmetic: puts base + sum of weight x (expert - base) into one model object."""

    def __init__(self, model: LlamaForCausalLM, base: dict, experts: dict[str, dict]) -> None:
        self.model, self.base = model, base
        self.deltas = [{k: expert[k] - base[k] for k in base} for expert in experts.values()]

    def __call__(self, weights) -> None:
        parts = list(zip(map(float, weights), self.deltas, strict=True))
        self.model.load_state_dict({k: v + sum(w * d[k] for w, d in parts) for k, v in self.base.items()})


def search(merge: Merger, score: Scorer, trials: int, limit: int | None) -> np.ndarray:
    """Random search on the validation split: half the trials anywhere, half around the best so far."""
    rng, best, best_score = np.random.default_rng(4), np.zeros(3), -1.0
    for trial in range(1, trials + 1):
        near = trial > trials // 2
        weights = best + rng.normal(0.0, 0.12, 3) if near else rng.uniform(0.0, 1.25, 3)
        merge(weights)
        mean = float(score("validation", limit).mean())
        if mean > best_score:
            best, best_score = weights, mean
            print(f"search: trial {trial}/{trials}, mean {mean:.3f}, weights {np.round(weights, 3)}", flush=True)
    return best


def cross_table(merge: Merger, score: Scorer, trials: int, limit: int | None) -> str:
    """A Markdown table of test scores: base, experts, common scales, and the best merge found."""
    best = search(merge, score, trials, limit)
    rows = {"base": np.zeros(3)}
    rows |= {f"expert {skill}": np.eye(3)[i] for i, skill in enumerate(zt.SKILLS)}
    rows |= {"plain average (1/3 each)": np.full(3, 1 / 3)}
    rows |= {f"common weight {w}": np.full(3, w) for w in (0.2, 0.4, 0.5, 0.6, 0.8, 1.0)}
    rows |= {f"best found ({', '.join(f'{w:.3f}' for w in best)})": best}
    lines = [f"| model | {' | '.join(TASKS)} | mean |", "|---|" + "---:|" * (len(TASKS) + 1)]
    for name, weights in rows.items():
        merge(weights)
        scores = score("test", limit)
        lines.append(f"| {name} | " + " | ".join(f"{s:.3f}" for s in [*scores, scores.mean()]) + " |")
    return "\n".join(lines)


def state(model: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=PICO, help="output folder")
    parser.add_argument("--quick", action="store_true", help="a short run that checks the script only")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    shorten = 20 if args.quick else 1
    taken = write_tasks(args.to / "tasks")
    model = train_base(taken, LEAD_STEPS // shorten, LAZY_STEPS // shorten)
    save(model, args.to / "base")
    base, experts = state(model), {}
    for skill in zt.SKILLS:
        model.load_state_dict(base)
        train_expert(model, skill, taken, EXPERT_STEPS // shorten)
        save(model, args.to / skill)
        experts[skill] = state(model)
    scorer, limit = Scorer(model, args.to), 20 if args.quick else None
    print(cross_table(Merger(model, base, experts), scorer, SEARCH_TRIALS // shorten, limit))


if __name__ == "__main__":
    main()
