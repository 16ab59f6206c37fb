"""What every space must hold, stated once: tests of its members call these."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evomerge import build
from evomerge.models import blank
from evomerge.problem import Problem
from evomerge.recipe_io import from_data
from evomerge.spaces.likeness import alike
from evomerge.spaces.references import references
from evomerge.types import Blend
from tests.spaces.made_up import built


def genomes(size):
    return arrays(np.float64, size, elements=st.floats(0, 1))


def problem(space):
    return Problem(space.variables, active=getattr(space, "active", None))


def default(space):
    return problem(space).default


def at(space, name):
    return [v.name for v in space.variables].index(name)


def holds_when_settled(space, genome):
    """Settled genes mean what the genes did, and settling them again changes nothing."""
    settled = problem(space).settled(genome)
    assert space.decode(settled) == space.decode(genome)
    assert np.array_equal(problem(space).settled(settled), settled)


def only_active_genes_count(space, genome, others):
    """Genes that are not active may be anything."""
    changed = np.where(space.active(genome), genome, others)
    assert np.array_equal(space.active(changed), space.active(genome))
    assert space.decode(changed).digest == space.decode(genome).digest


def every_active_gene_counts(space, genome):
    """Each other value of an active gene is another recipe; the genome must lie away from ties and bounds."""
    recipes = {space.decode(genome).digest}
    for i in np.flatnonzero(space.active(genome)):
        moved = genome.copy()
        moved[i] = (genome[i] + 0.05) if space.variables[i].levels == 0 else (genome[i] + 0.5) % 1
        recipes.add(space.decode(moved).digest)
    assert len(recipes) == 1 + int(space.active(genome).sum())


def common_factor_counts(space):
    """Whether twice what each leading variable was, in its own units, is another model."""
    one, two = default(space), default(space)
    for i, v in enumerate(space.variables):
        if v.leading:
            value = max((0.2, 0.35, 0.3, 0.4)[i % 4], v.low)
            one[i], two[i] = (value - v.low) / (v.high - v.low), (2 * value - v.low) / (v.high - v.low)
    pairs = zip(built(space.decode(one)), built(space.decode(two)), strict=True)
    return not all(torch.allclose(a, b, rtol=0, atol=1e-5) for a, b in pairs)


def answers_each_reference(space, parents):
    """Every reference has a genome of the cube, or none. Returns the names of those that have."""
    found = {name: space.encode(r) for name, r in references(parents, seed=0, dtype="float32").items()}
    said = {name: genome for name, genome in found.items() if genome is not None}
    assert all(genome.shape == (space.size,) and ((genome >= 0) & (genome <= 1)).all() for genome in said.values())
    return set(said)


def comes_back(space, recipe):
    """The recipe, read from a file, has a genome in the cube that decodes to it. Returns the genome."""
    found = space.encode(from_data(json.loads(json.dumps(recipe.data()))))
    assert found is not None
    assert ((found >= 0) & (found <= 1)).all()
    assert alike(space.decode(found), recipe)
    return found


def finite_logits(recipe, family):
    """Build the recipe in a live model, and let it speak."""
    model, _ = blank.live_model(family.base_folder, torch.device("cpu"), "float32")
    build.write(recipe, family, blank.targets(model, family.model.files))
    with torch.no_grad():
        logits = model(torch.arange(12)[None]).logits
    assert torch.isfinite(logits).all()
    return logits


def nearly(blends: Mapping[str, Blend]):
    """Blends to compare with `==`, numbers up to rounding."""
    return {
        part: (b.method, {k: v if isinstance(v, bool | str) else pytest.approx(v) for k, v in b.knobs.items()})
        for part, b in blends.items()
    }
