"""What a mergekit method demands of the models that go into a slice: how many, and with the base among them."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.errors import MergeError, unknown
from evomerge.mergekit_io.dialect import DIALECTS
from evomerge.mergekit_io.references import Reference
from evomerge.methods import METHODS

_WAYS_OUT = {
    "slerp": "Leave models out, or use linear.",
    "passthrough": "Give each its own slice, or leave out base_model, which counts where it is no model of the list.",
    "nuslerp": "Use multislerp for another number of models.",
    "model_stock": "Add models, or use linear.",
}


def check_method(method: object, where: str) -> str:
    """The method's name. Raises MergeError for one that mergekit 0.1.5 does not have either."""
    if method is None:
        raise MergeError(f"{where} has no merge_method. Add one of {', '.join(sorted(DIALECTS))}.")
    if not isinstance(method, str) or method not in DIALECTS:
        raise MergeError(f"{where}: {unknown('merge_method', str(method), DIALECTS)}")
    return method


def differs(method: str, base: Reference | None) -> bool:
    """Whether the models of a slice are merged as differences from its base, which is then none of them."""
    on = METHODS[method].on
    return on == "deltas" or (on == "either" and base is not None)


def check_inputs(method: str, models: Sequence[Reference], base: Reference | None, where: str) -> None:
    """Raises MergeError for models given twice, a base that is missing, or too few or too many models."""
    twice = next((m for i, m in enumerate(models) if m in models[:i]), None)
    if twice is not None:
        raise MergeError(f"{where} has the model {twice} twice. Leave one out, or use slices one after the other.")
    if not models:
        raise MergeError(f"{where} has no models. Wanted at least one.")
    policy = DIALECTS[method].base
    if policy == "required" and base is None:
        raise MergeError(f"{where}: {method} needs a base, and the YAML has no base_model. Add one.")
    if policy != "ignored" and base is not None and base not in models:
        raise MergeError(f"{where}: {method} needs the base {base} among its models: {_listed(models)}. Add it.")
    _check_count(method, models, base, where)


def _check_count(method: str, models: Sequence[Reference], base: Reference | None, where: str) -> None:
    least, most = DIALECTS[method].models
    extra = int(DIALECTS[method].base != "ignored" and base is not None)
    if least + extra <= len(models) and (most is None or len(models) <= most + extra):
        return
    wanted = f"{least + extra}" if most == least else f"at least {least + extra}"
    raise MergeError(
        f"{where}: {method} takes {wanted} model{'s' * (least + extra > 1)}, base included; got {len(models)}: "
        f"{_listed(models)}. {_WAYS_OUT.get(method, 'Add models, or leave some out.')}"
    )


def _listed(models: Sequence[Reference]) -> str:
    return ", ".join(map(str, models))


def check_bases(
    method: str, models: Sequence[Reference], own: Reference | None, base: Reference | None, where: str
) -> None:
    """A recipe has one base: differences are from it, and LoRAs lie over it. own: the slice's base."""
    if differs(method, own) and own != base:
        raise MergeError(f"{where} has the base {own}, the YAML {base}. {method} needs one base for all slices.")
    for model in models:
        if model.lora is not None and (base is None or (model.path, model.revision) != (base.path, base.revision)):
            raise MergeError(
                f"{where}: {model} is a LoRA over {model.path}, and base_model is {base}. Set base_model to the model "
                "of the LoRA, or merge the LoRA into its model first."
            )
