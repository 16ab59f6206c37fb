"""The model card names what the hub can find."""

import shutil

from evomerge.export import model_card
from evomerge.models.family import open_family
from evomerge.spaces.references import references

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_card_lists_hub_parents_by_id_and_all_parents_with_their_versions(pico, tmp_path, monkeypatch):
    repository = tmp_path / "models--org--model"
    shutil.copytree(pico["a"], repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    family = open_family(["org/model"], str(pico["base"]))
    recipe = references(family.pool(), seed=0, dtype="float32")["average"]
    card = model_card("a merge", recipe, family, "", {"run": "r"})
    front = card.split("---")[1]
    assert "base_model:\n- org/model\n" in front and str(pico["base"]) not in front
    assert f"| parent | org/model@{COMMIT} | `{family.parents[0].digest}` |" in card
    assert f"| base | {pico['base'].resolve()} |" in card
