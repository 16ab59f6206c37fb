"""Well-known models and machines, to tell what fits where before anything is downloaded: `evomerge doctor --profile`.

The shapes are those of the models' public configs; their tensors are counted on torch's meta device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from evomerge.errors import ConfigError, unknown
from evomerge.memory.crews import best_crew
from evomerge.memory.plan import Job, Load, Machine, Plan, Shape, shape_of

GB = 10**9
#: Free memory as the name says it, in decimal GB: a real card holds a little more, and its driver takes about that.
MACHINES = {
    "24gb": Machine(device=24 * GB, host=64 * GB),
    "80gb": Machine(device=80 * GB, host=128 * GB),
    "8x80gb": Machine(device=80 * GB, host=1024 * GB, devices=8),
}
N_PARENTS = 3  # beside the base
TOKENS = 1024  # of the longest request: a few-shot prompt
BATCH = 32  # the default of backend.batch_size


@dataclass(frozen=True)
class Model:
    """A public model: the transformers config class that describes it, and its numbers."""

    kind: str
    settings: dict[str, Any]


MODELS = {
    "7B": Model(
        "Qwen2Config",  # Qwen2.5-7B
        {
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "tie_word_embeddings": False,
        },
    ),
    "8B": Model(
        "LlamaConfig",  # Llama-3.1-8B
        {
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "tie_word_embeddings": False,
        },
    ),
    "14B": Model(
        "Qwen2Config",  # Qwen2.5-14B
        {
            "vocab_size": 152064,
            "hidden_size": 5120,
            "intermediate_size": 13824,
            "num_hidden_layers": 48,
            "num_attention_heads": 40,
            "num_key_value_heads": 8,
            "tie_word_embeddings": False,
        },
    ),
    "32B": Model(
        "Qwen2Config",  # Qwen2.5-32B
        {
            "vocab_size": 152064,
            "hidden_size": 5120,
            "intermediate_size": 27648,
            "num_hidden_layers": 64,
            "num_attention_heads": 40,
            "num_key_value_heads": 8,
            "tie_word_embeddings": False,
        },
    ),
    "70B": Model(
        "LlamaConfig",  # Llama-3.1-70B
        {
            "vocab_size": 128256,
            "hidden_size": 8192,
            "intermediate_size": 28672,
            "num_hidden_layers": 80,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "tie_word_embeddings": False,
        },
    ),
}


def machine(name: str) -> Machine:
    """The machine of a profile. Raises ConfigError for a name that is not known."""
    if name not in MACHINES:
        raise ConfigError(unknown("profile", name, MACHINES))
    return MACHINES[name]


@cache
def shape(name: str) -> Shape:
    """The shape of a model in MODELS, from a model without weights: takes a second and no memory."""
    import torch
    import transformers

    known = MODELS[name]
    config = getattr(transformers, known.kind)(**known.settings)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return shape_of(config, {n: tuple(p.shape) for n, p in model.named_parameters()})


def typical(name: str, n_parents: int = N_PARENTS) -> Job:
    """A search over a base and some parents in bfloat16, scored on few-shot prompts."""
    found = shape(name)
    return Job(
        shape=found,
        checkpoints=(2 * found.parameters,) * (1 + n_parents),
        n_parents=n_parents,
        itemsize=2,
        live_itemsize=2,
        load=Load(BATCH, TOKENS),
    )


def plans(profile: str) -> dict[str, Plan]:
    """By model: the typical search, its devices dealt out to workers; see `largest_batch`."""
    return {name: largest_batch(best_crew(typical(name), machine(profile))) for name in MODELS}


def largest_batch(found: Plan) -> Plan:
    """The plan itself if it fits, else with the first halved batch that does; else the plan itself.

    The devices of all workers may be dealt out anew.
    """
    whole = replace(found.machine, devices=found.machine.devices * found.machine.workers, workers=1)
    size = found.job.load.batch_size
    smaller = (replace(found.job, load=replace(found.job.load, batch_size=size >> k)) for k in range(size.bit_length()))
    fitting = (p for p in (best_crew(job, whole) for job in smaller) if p.placement is not None)
    return found if found.placement is not None else next(fitting, found)
