"""Published numbers: what was computed from them by hand beforehand comes out of the module."""

import numpy as np
import pytest

from robbertje_lib.conclusions import published
from robbertje_lib.conclusions.published import paper_comparisons, published_difference, published_tables


def p_of(task: str, a: str, b: str) -> float:
    (p,) = [r.p for r in paper_comparisons() if r.task == task and {r.a, r.b} == {a, b}]
    assert p is not None
    return p


@pytest.mark.parametrize(
    ("task", "a", "b", "expected"),
    [
        ("dbrd", "merged", "non_shuffled", 0.001),
        ("dbrd", "shuffled", "non_shuffled", 0.006),
        ("dbrd", "merged", "shuffled", 0.61),
        ("dbrd", "non_shuffled", "bort", 0.51),
        ("sick_nl", "shuffled", "merged", 0.43),
        ("sick_nl", "bort", "shuffled", 0.002),
        ("pos", "shuffled", "merged", 0.15),
    ],
)
def test_unpaired_tests_of_the_main_table(task: str, a: str, b: str, expected: float) -> None:
    """A rounded score leaves the count of right answers open by one or two, hence the tolerance."""
    assert p_of(task, a, b) == pytest.approx(expected, abs=0.015)


def test_the_only_exact_count_known_rounds_to_its_cell() -> None:
    cell = published.published_score("merged", "dbrd")
    assert cell is not None and cell.value == round(100 * 2067 / 2224, 1)


def test_the_table_is_whole_and_sourced() -> None:
    results = published_tables().table("results")
    assert len(results) == 5 * 6
    assert all(cell.source and cell.value is not None for cell in results)
    assert all(cell.certainty == "not available" for cell in published_tables().numbers if cell.value is None)


def test_a_task_of_unknown_size_is_not_tested_but_says_what_it_would_take() -> None:
    rows = [r for r in paper_comparisons() if r.task == "die_dat"]
    assert all(r.p is None and r.adjusted_p is None for r in rows)
    assert all(r.size_needed and r.size_needed > 0 for r in rows)
    difference = published_difference("merged", "teacher", "die_dat")
    assert difference is not None and difference.interval is None


def test_distances_to_the_teacher_have_the_binomial_half_width() -> None:
    difference = published_difference("non_shuffled", "teacher", "sick_nl")
    assert difference is not None and difference.interval is not None
    assert difference.value == pytest.approx(-0.008)
    low, high = difference.interval
    expected = 1.96 * np.sqrt((0.834 * 0.166 + 0.842 * 0.158) / 4906)
    assert (high - low) / 2 == pytest.approx(expected)


def test_distances_of_pseudo_perplexity_are_logarithms_without_interval() -> None:
    difference = published_difference("bort", "teacher", "pseudo_perplexity")
    assert difference is not None and difference.interval is None
    assert difference.value == pytest.approx(np.log(26.44 / 7.76))


@pytest.mark.parametrize("task", ["dbrd", "pseudo_perplexity", "mine"])
def test_what_the_table_lacks_has_no_difference(task: str) -> None:
    assert published_difference("merged_same_lines", "teacher", task) is None


def test_confounds_say_what_they_explain() -> None:
    confounds = published_tables().confounds
    ids = [confound.id for confound in confounds]
    assert len(set(ids)) == len(ids)
    assert {"different_text", "accumulation", "one_seed", "held_out_overlap", "teacher_row"} <= set(ids)
    assert all(confound.explains for confound in confounds)


def test_the_recipe_is_confirmed_for_the_two_models_whose_settings_are_public() -> None:
    """The other two have the same cells, inferred, but for what is known of none."""
    recipe = [cell for cell in published_tables().table("recipe") if cell.row != "scripts"]
    confirmed, inferred = (
        {c.column: c.value for c in recipe if c.certainty == s and "," in c.row} for s in ("confirmed", "inferred")
    )
    assert confirmed == inferred and {"fp16", "group_by_size", "alpha_clm", "initializer_range"} <= set(confirmed)
    assert all(("merged" in cell.row) == (cell.certainty != "confirmed") for cell in recipe)
    loss = [confirmed[f"alpha_{part}"] for part in ("ce", "mlm", "cos", "clm", "mse")]
    assert loss == [5.0, 2.0, 1.0, 0.0, 0.0]


def test_parameter_counts_agree_with_each_other() -> None:
    for model in ("non_shuffled", "bort"):
        exact, on_card = (published.published_size(model, name).value for name in ("parameters", "parameters_on_card"))
        assert isinstance(exact, int) and isinstance(on_card, int)
        assert round(exact, -6) == on_card
        head = 40_000 + 2 * 768 - (768 * 2 + 2)  # bias of the vocabulary and norm of the one, two outputs of the other
        assert published.published_size(model, "parameters_as_classifier").value == exact - head
