"""The smallest difference that items can show, against simulated comparisons."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.doctor.splits import USUAL, mean_sentence, powers, sentence, smallest_difference
from evomerge.types import Metric

ACC = Metric("acc", True)


def found_significant(n: int, disagreement: float, difference: float, trials: int = 20_000) -> float:
    """Share of simulated pairs of models whose mean difference is significant at two-sided 5%."""
    rng = np.random.default_rng(5)
    better, worse = (disagreement + difference) / 2, (disagreement - difference) / 2
    counts = rng.multinomial(n, [better, worse, 1 - better - worse], size=trials)
    mean = (counts[:, 0] - counts[:, 1]) / n
    variance = (counts[:, 0] + counts[:, 1]) / n - mean**2
    return float((np.abs(mean) > 1.959964 * np.sqrt(np.maximum(variance, 1e-12) / n)).mean())


@pytest.mark.parametrize("n, disagreement", [(120, 0.5), (300, 0.25), (1200, 0.125)])
def test_the_difference_is_found_in_four_of_five_comparisons(n, disagreement):
    power = found_significant(n, disagreement, smallest_difference(n, disagreement))
    assert 0.78 < power < 0.87  # the formula leaves out a small term, on the safe side
    assert found_significant(n, disagreement, 0.5 * smallest_difference(n, disagreement)) < 0.4


def test_120_items_show_nine_hundredths():
    assert smallest_difference(120) == pytest.approx(0.0904, abs=1e-4)
    [power] = powers({"test": {"t": tuple(map(str, range(120)))}}, {"t": ACC})
    assert sentence(power, ACC).startswith("on 120 test items of t a winner must be better by about 0.09 (0.18 if")


def test_four_times_the_items_show_half_the_difference():
    assert smallest_difference(1600) == pytest.approx(smallest_difference(400) / 2)


def test_models_never_differ_by_more_than_they_disagree():
    for n in range(8, 200):
        assert smallest_difference(n) >= smallest_difference(n + 1)
        assert smallest_difference(n) <= USUAL or smallest_difference(n) == pytest.approx(max(USUAL, 7.849 / n), 1e-3)


def test_a_handful_of_items_shows_nothing():
    assert smallest_difference(7) is None and smallest_difference(8) is not None
    [power] = powers({"test": {"t": ("a", "b")}}, {"t": ACC})
    assert sentence(power, ACC) == "on 2 test items of t no difference at all can be shown"


def test_a_mean_over_equal_tasks_is_as_sharp_as_all_their_items():
    assert f"{smallest_difference(400):.2f}" in mean_sentence({"a": 100, "b": 100, "c": 100, "d": 100}, "test")
    assert mean_sentence({"a": 100, "b": 100}, "test").startswith("in the mean over 2 tasks (200 test items)")


def test_log_likelihoods_have_no_scale_to_speak_of():
    bits = Metric("bits_per_byte", False, "pairs")
    [power] = powers({"test": {"t": ("a", "b")}}, {"t": bits})
    assert power.usual is None and "no fixed scale" in sentence(power, bits)
