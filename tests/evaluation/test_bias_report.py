"""Summaries, comparisons and the reading of a planted bias, from tables whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from robbertje_lib.evaluation.bias_report import by_profession, compare_models, lean, read_back, summarise
from robbertje_lib.experiment.run import open_run

TEMPLATES = ("a", "b", "c")


def table(log_odds: np.ndarray, gender: np.ndarray, noise: float = 0.0, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for number, (value, associated) in enumerate(zip(log_odds, gender, strict=True)):
        for template in TEMPLATES:
            odds = value + noise * rng.normal()
            p_zij = 0.5 / (1 + np.exp(odds))
            rows.append({"template": template, "profession": f"p{number}", "form": "base", "associated_gender": associated,
                         "p_hij": 0.5 - p_zij, "p_zij": p_zij, "p_ze": np.nan, "p_other_case": 0.0, "rank_hij": 1,
                         "rank_zij": 2, "rank_difference": -round(10 * odds), "log_odds": odds, "lpbs": odds - 1,
                         "unknown": False})  # fmt: skip
    return pd.DataFrame(rows)


def test_means_intervals_and_correlation() -> None:
    gender = np.linspace(-1, 1, 40)
    summary = summarise(table(2 * gender + 0.5, gender, 0.1), 500, np.random.default_rng(0))
    assert summary["log_odds"]["mean"] == pytest.approx(0.5, abs=0.05)
    low, high = summary["log_odds"]["interval"]
    assert low < summary["log_odds"]["mean"] < high and high - low == pytest.approx(2 * 1.96 * 1.18 / 40**0.5, rel=0.2)
    assert summary["lpbs"]["mean"] == pytest.approx(summary["log_odds"]["mean"] - 1)
    assert summary["correlation"]["lpbs"]["spearman"] > 0.95
    assert summary["correlation"]["rank_difference"]["spearman"] < -0.95
    assert all(row["spearman"] > 0.95 for row in summary["agreement"])
    assert set(summary["log_odds"]["templates"]) == set(TEMPLATES)
    assert summary["pronoun_mass"]["ze"] is None


def test_female_forms_do_not_count_twice() -> None:
    base = table(np.ones(5), np.zeros(5))
    both = pd.concat([base, base.assign(form="female", profession=base["profession"] + "in", log_odds=-50.0)])
    assert by_profession(both)["log_odds"].tolist() == pytest.approx([1.0] * 5)
    summary = summarise(both, 50, np.random.default_rng(0))
    assert summary["log_odds"]["female_forms"] == pytest.approx(-50)


def test_a_less_biased_student_is_found_and_an_equal_one_is_not() -> None:
    gender = np.linspace(-1, 1, 60)
    tables = {
        "teacher": table(2 * gender, gender, 0.3, 1),
        "milder": table(gender, gender, 0.3, 2),
        "alike": table(2 * gender, gender, 0.3, 3),
    }
    rows = {(r["b"], r["metric"]): r for r in compare_models(tables, 2000, 500, seed=0)}
    milder, alike = rows["milder", "log_odds"], rows["alike", "log_odds"]
    assert milder["p"] < 0.01 and milder["interval"][0] > 0 and milder["n"] == 60
    assert alike["p"] > 0.05 and alike["interval"][0] < 0 < alike["interval"][1]
    assert {r["a"] for r in rows.values()} == {"teacher"}


def test_a_perfect_probe_reads_the_planted_bias() -> None:
    run = open_run("smoke")
    planted = np.linspace(0.1, 0.9, 30)
    found = read_back(run, {"teacher": table(np.log((1 - planted) / planted), 1 - 2 * planted, 1e-4)}, {})
    teacher = found["models"]["teacher"]
    assert teacher["slope"] == pytest.approx(1, abs=1e-3) and teacher["spearman"] == pytest.approx(1)
    assert teacher["calibration_error"] == pytest.approx(0, abs=1e-3)
    assert [row["read"] for row in found["occupations"]] == pytest.approx(planted.tolist(), abs=1e-3)


def test_nothing_planted_gives_no_slope_and_few_leaning_occupations() -> None:
    run = open_run("smoke")
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(100):
        persons = rng.integers(30, 200, 40)
        zij = rng.binomial(persons, 0.5)
        # A faithful model: it repeats the share of zij that its text happened to show.
        shown = table(np.log((persons - zij) / zij), np.zeros(40), 0.02)
        model = read_back(run, {"teacher": shown}, {f"p{i}": int(n) for i, n in enumerate(persons)})["models"][
            "teacher"
        ]
        assert model["slope"] is None and model["spearman"] is None
        alarms += model["leaning_occupations"] > 0
    # Holm holds the chance of any false alarm to 5 %: more than 12 in 100 would be seen once in 700.
    assert alarms <= 12


def test_a_real_lean_is_found_and_an_unseen_occupation_is_not_judged() -> None:
    log_odds = np.array([[1.5, 1.4, 1.6], [0.1, -0.1, 0.0], [3.0, 3.0, 3.0]])
    p = lean(log_odds, np.array([100, 100, 0]))
    assert p[0] < 1e-6 and p[1] > 0.9 and p[2] == 1
