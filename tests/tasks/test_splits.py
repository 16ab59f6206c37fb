"""Splits: by content, disjoint, stable, whole groups, no leaks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import ConfigError, TaskError
from evomerge.tasks.splits import Split, as_split, divide, item_id, subtasks_of


def docs_of(n: int, per_group: int = 1) -> dict[str, dict]:
    docs = [{"q": k, "passage": k // per_group} for k in range(n)]
    return {item_id(doc): doc for doc in docs}


@given(n=st.integers(5, 60), seed=st.integers(0, 5), share=st.floats(0.2, 0.8))
def test_sides_are_disjoint_and_complete(n: int, seed: int, share: float):
    docs = docs_of(n)
    sides, _ = divide("t", docs, None, Split(seed=seed, selection=share, test=0.4))
    assert sorted(i for items in sides.values() for i in items) == sorted(docs)
    assert len(sides["test"]) == round(0.4 * n)
    assert len(sides["selection"]) == round(share * (n - round(0.4 * n)))


@given(st.randoms(use_true_random=False))
def test_sides_do_not_depend_on_the_order_of_documents(rng):
    docs = docs_of(30, per_group=3)
    shuffled = list(docs)
    rng.shuffle(shuffled)
    split = Split(group="passage")
    assert divide("t", docs, None, split) == divide("t", {i: docs[i] for i in shuffled}, None, split)


def test_item_id_does_not_depend_on_the_order_of_fields():
    assert item_id({"a": 1, "b": [2, None]}) == item_id({"b": [2, None], "a": 1}) != item_id({"a": 2, "b": [2, None]})


def test_seed_and_task_change_the_cut():
    docs = docs_of(30)
    cuts = [divide(name, docs, None, Split(seed=seed))[0]["test"] for name, seed in [("t", 0), ("t", 1), ("u", 0)]]
    assert len({frozenset(cut) for cut in cuts}) == 3


def test_groups_stay_together_on_one_side():
    docs = docs_of(40, per_group=4)
    sides, _ = divide("t", docs, None, Split(group="passage"))
    passages = {side: {docs[i]["passage"] for i in items} for side, items in sides.items()}
    assert not passages["search"] & passages["selection"] and not passages["test"] & passages["selection"]
    assert not passages["search"] & passages["test"]


def test_parallel_tasks_cut_their_groups_alike():
    german, french = ({item_id(d | {"lang": lang}): d for d in docs_of(30).values()} for lang in ("de", "fr"))
    split = Split(group="passage")
    cut = [
        {side: {docs[i]["passage"] for i in items} for side, items in divide(name, docs, None, split)[0].items()}
        for name, docs in [("t_de", german), ("t_fr", french)]
    ]
    assert cut[0] == cut[1]


def test_items_also_in_the_test_are_dropped_from_search():
    docs = docs_of(20)
    test = dict(list(docs.items())[:5])
    sides, notes = divide("t", docs, test, Split())
    assert set(sides["test"]) == set(test)
    assert set(sides["search"]) | set(sides["selection"]) == set(docs) - set(test)
    assert notes == ["t: 5 of 20 search items are in the test too: dropped"]


def test_a_passage_of_the_test_is_dropped_from_search():
    docs = docs_of(20, per_group=2)
    test = {item_id({"q": 99, "passage": 3}): {"q": 99, "passage": 3}}
    sides, _ = divide("t", docs, test, Split(group="passage"))
    assert {docs[i]["passage"] for i in sides["search"] + sides["selection"]} == set(range(10)) - {3}


@pytest.mark.parametrize(
    ("n", "test", "split", "message"),
    [
        (1, 3, Split(selection=0.3), "no selection items.*Raise split.selection"),
        (3, 3, Split(selection=0.9), "no search items.*Lower split.selection"),
        (2, None, Split(test=0.1), "no test items.*Raise split.test"),
    ],
)
def test_an_empty_side_is_refused_with_a_remedy(n: int, test: int | None, split: Split, message: str):
    held = None if test is None else {item_id(d): d for d in ({"q": -k} for k in range(1, test))}
    with pytest.raises(TaskError, match=message):
        divide("t", docs_of(n), held, split)


def test_a_bank_is_the_first_search_items_and_the_rest_serves_nothing():
    docs = docs_of(40)
    whole, _ = divide("t", docs, None, Split(bank=None))
    sides, notes = divide("t", docs, None, Split(bank=10))
    assert sides == {**whole, "search": whole["search"][:10]}
    assert notes[1:] == ["t: 10 of 14 search items are used (split.bank=10)"]
    assert divide("t", docs, None, Split(bank=14))[1] == notes[:1]


@given(bank=st.integers(2, 30), per_group=st.integers(1, 7))
def test_a_bank_holds_whole_groups_and_no_more_than_it_may(bank: int, per_group: int):
    docs = docs_of(60, per_group)
    whole, sides = (divide("t", docs, None, Split(bank=b, group="passage"))[0] for b in (None, bank))
    kept = {docs[i]["passage"] for i in sides["search"]}
    assert set(sides["search"]) == {i for i in whole["search"] if docs[i]["passage"] in kept}
    assert len(sides["search"]) <= bank or len(kept) == 1
    left = len(whole["search"]) - len(sides["search"])
    assert left == 0 or len(sides["search"]) > bank - per_group


def test_sub_tasks_are_the_values_of_a_field_that_all_documents_have():
    docs = docs_of(6, per_group=3)
    assert subtasks_of("t", docs, "passage") == {i: str(doc["passage"]) for i, doc in docs.items()}
    assert subtasks_of("t", docs, None) == subtasks_of("t", docs, "subject") == {}
    some = {**docs, "x": {"q": 9}}
    with pytest.raises(TaskError, match=r"'t': document x has no field 'passage', others have.*This one has: q\."):
        subtasks_of("t", some, "passage")


def test_bad_settings_are_refused():
    for bank in (1, 2.5, True, "all"):
        with pytest.raises(ConfigError, match=r"split.bank is .*; wanted a whole number from 2, or null"):
            Split(bank=bank)
    with pytest.raises(ConfigError, match=r"split.selection is 1.0"):
        Split(selection=1.0)
    with pytest.raises(ConfigError, match=r"'sede'. Did you mean 'seed'"):
        as_split({"sede": 1})
    with pytest.raises(TaskError, match=r"'passages'. Did you mean 'passage'"):
        divide("t", docs_of(9), None, Split(group="passages"))
