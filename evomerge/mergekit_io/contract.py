"""What a mergekit method demands of the models that go into a slice: how many, and with the base among them."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.errors import MergeError, unknown
from evomerge.mergekit_io.references import Reference
from evomerge.mergekit_io.settings import PARAMETERS
from evomerge.methods import METHODS


def needs_base(method: str) -> bool:
    return METHODS[method].needs_base or method == "slerp"


def check_method(method: object, where: str) -> str:
    """The method's name. Raises MergeError for one that mergekit has and we have not, or that nobody has."""
    if not isinstance(method, str) or method not in PARAMETERS:
        raise MergeError(f"{where}: {unknown('merge_method', str(method), PARAMETERS)} Others cannot be built yet.")
    return method


def check_inputs(method: str, models: Sequence[Reference], base: Reference | None, where: str) -> None:
    """Raises MergeError for models given twice, a base that is missing, or too few or too many models."""
    twice = next((m for i, m in enumerate(models) if m in models[:i]), None)
    if twice is not None:
        raise MergeError(f"{where} has the model {twice} twice. Leave one out, or use slices one after the other.")
    if not models:
        raise MergeError(f"{where} has no models. Wanted at least one.")
    if needs_base(method) and base is None:
        raise MergeError(f"{where}: {method} needs a base, and the YAML has no base_model. Add one.")
    if needs_base(method) and base not in models:
        raise MergeError(f"{where}: {method} needs the base {base} among its models: {_listed(models)}. Add it.")
    wanted = {"slerp": 2, "passthrough": 1}.get(method)
    if wanted is not None and len(models) != wanted:
        raise MergeError(
            f"{where}: {method} takes {wanted} model{'s' * (wanted > 1)}, base included; got {len(models)}: "
            f"{_listed(models)}. {_way_out(method)}"
        )


def _listed(models: Sequence[Reference]) -> str:
    return ", ".join(map(str, models))


def _way_out(method: str) -> str:
    if method == "slerp":
        return "Leave models out, or use linear."
    return "Give each its own slice, or leave out base_model, which counts where it is no model of the list."


def check_bases(
    method: str, models: Sequence[Reference], own: Reference | None, base: Reference | None, where: str
) -> None:
    """A recipe has one base: differences are from it, and LoRAs lie over it. own: the slice's base."""
    if METHODS[method].needs_base and own != base:
        raise MergeError(f"{where} has the base {own}, the YAML {base}. {method} needs one base for all slices.")
    for model in models:
        if model.lora is not None and (base is None or (model.path, model.revision) != (base.path, base.revision)):
            raise MergeError(
                f"{where}: {model} is a LoRA over {model.path}, and base_model is {base}. Set base_model to the model "
                "of the LoRA, or merge the LoRA into its model first."
            )
