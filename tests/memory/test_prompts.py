"""What the ruler hears is what a real backend is given."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig

from evomerge.backends.hf import HFBackend
from evomerge.memory.prompts import Ruler, ask_all, asked, load_of, longest, max_length_of
from evomerge.models import blank, tokenizer
from evomerge.tasks import harness
from tests.task_folder import TASKS


@pytest.fixture(scope="module")
def tasks(task_folder):
    return harness.load(list(TASKS), include_path=task_folder)


def longest_inputs(pico, task) -> int:
    """Tokens of the longest row that the live model sees while it scores all search items."""
    model, words = blank.live_model(pico["base"], torch.device("cpu"), "float32")
    backend, seen = HFBackend(batch_size=1).wrap(model, words), []
    model.register_forward_pre_hook(
        lambda m, args, kw: seen.append((*args, *kw.values())[0].shape[1]), with_kwargs=True
    )
    task.score(backend, task.items["search"])
    return max(seen)


def test_scored_tokens_are_those_the_model_reads_and_the_last_of_the_answer(pico, tasks):
    sums = next(t for t in tasks if t.name == "sums")
    found = asked(sums, sums.items["search"], tokenizer.load(pico["base"]))
    assert found.scored == longest_inputs(pico, sums) + 1 and found.generated == 0
    assert found.per_item == 3  # choices


def test_generated_tokens_are_prompt_and_answer(pico, tasks):
    letters = next(t for t in tasks if t.name == "letters")
    found = asked(letters, letters.items["search"], tokenizer.load(pico["base"]))
    assert found.generated == longest_inputs(pico, letters) + 3 and found.scored == 0  # max_gen_toks is 3
    assert found.per_item == 1


def test_listening_leaves_the_scores_of_a_task_as_they_are(pico, tasks):
    model, words = blank.live_model(pico["base"], torch.device("cpu"), "float32")
    backend = HFBackend(batch_size=4).wrap(model, words)
    for task in tasks:
        before = task.score(backend, task.items["search"]).values.tolist()
        asked(task, task.items["search"], tokenizer.load(pico["base"]))
        assert task.score(backend, task.items["search"]).values.tolist() == before


def test_the_ruler_renders_a_chat_as_the_backend_does(pico):
    model, words = blank.live_model(pico["base"], torch.device("cpu"), "float32")
    backend = HFBackend().wrap(model, words)
    messages = [{"role": "user", "content": "?"}]
    for prompt in (True, False):
        assert Ruler(words).apply_chat_template(messages, prompt) == backend.apply_chat_template(messages, prompt)


def test_the_load_is_the_longest_of_all_tasks_cut_to_what_the_model_reads(pico, tasks):
    found = ask_all(tasks, tokenizer.load(pico["base"]))
    both = load_of(list(found.values()), 8, 1024)
    assert both.scored == found["sums"].scored and both.generated == found["letters"].generated
    assert load_of(list(found.values()), 8, 5).scored == 5


def test_the_longest_text_in_characters_decides(pico):
    words = tokenizer.load(pico["base"])
    assert longest(["ab" * n for n in range(100)], words) == len(words("ab" * 99)["input_ids"])


def test_the_setting_wins_over_the_models_own_length(pico):
    config = AutoConfig.from_pretrained(pico["base"])
    assert max_length_of(config, None) == 1024 and max_length_of(config, 100) == 100
