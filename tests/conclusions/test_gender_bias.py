"""Summaries, comparisons and the reading of a planted bias, from readings whose truth is known."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from robbertje_lib.conclusions.gender_bias import (
    by_profession,
    conclude_bias,
    gendered_completions,
    gendered_fills,
    lean,
    read_back,
    stereotype_preference,
    summarise,
)
from robbertje_lib.conclusions.stereotypes import MEASURES
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.paths import RunPaths
from robbertje_lib.experiment.profile import load_profile
from robbertje_lib.experiment.results.gender_bias import (
    CrowsPairsScores,
    DiscoFills,
    GenderBiasResult,
    ProbeResult,
    PronounProbe,
)
from robbertje_lib.experiment.run import Run
from robbertje_lib.show.tables import gender_bias as tables

TEMPLATES = ("a", "b", "c")
OTHER = "org/model-1.0"


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


def known(value: float | None) -> float:
    assert value is not None
    return value


def test_means_intervals_and_correlation() -> None:
    gender = np.linspace(-1, 1, 40)
    summary = summarise(table(2 * gender + 0.5, gender, 0.1), 500, np.random.default_rng(0))
    assert summary.metrics["log_odds"].mean == pytest.approx(0.5, abs=0.05)
    low, high = summary.metrics["log_odds"].interval
    assert low < summary.metrics["log_odds"].mean < high and high - low == pytest.approx(
        2 * 1.96 * 1.18 / 40**0.5, rel=0.2
    )
    assert summary.metrics["lpbs"].mean == pytest.approx(summary.metrics["log_odds"].mean - 1)
    assert known(summary.correlation["lpbs"].spearman) > 0.95
    assert known(summary.correlation["rank_difference"].spearman) < -0.95
    assert all(known(row.spearman) > 0.95 for row in summary.agreement)
    assert set(summary.metrics["log_odds"].templates) == set(TEMPLATES)
    assert summary.pronoun_mass["ze"] is None


def test_female_forms_do_not_count_twice() -> None:
    base = table(np.ones(5), np.zeros(5))
    both = pd.concat([base, base.assign(form="female", profession=base["profession"] + "in", log_odds=-50.0)])
    assert by_profession(both)["log_odds"].tolist() == pytest.approx([1.0] * 5)
    summary = summarise(both, 50, np.random.default_rng(0))
    assert summary.metrics["log_odds"].female_forms == pytest.approx(-50)


def test_a_perfect_probe_reads_the_planted_bias() -> None:
    planted = np.linspace(0.1, 0.9, 30)
    read = {"teacher": table(np.log((1 - planted) / planted), 1 - 2 * planted, 1e-4)}
    result = read_back(read, 1.0, {}, 0.05)
    teacher = result.models["teacher"]
    assert teacher.slope == pytest.approx(1, abs=1e-3) and teacher.spearman == pytest.approx(1)
    assert teacher.calibration_error == pytest.approx(0, abs=1e-3)
    assert [row.read for row in result.occupations] == pytest.approx(planted.tolist(), abs=1e-3)


def test_nothing_planted_gives_no_slope_and_few_leaning_occupations() -> None:
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(100):
        persons = rng.integers(30, 200, 40)
        zij = rng.binomial(persons, 0.5)
        # A faithful model: it repeats the share of zij that its text happened to show.
        shown = table(np.log((persons - zij) / zij), np.zeros(40), 0.02)
        documents = {f"p{i}": int(n) for i, n in enumerate(persons)}
        model = read_back({"teacher": shown}, 0.0, documents, 0.05).models["teacher"]
        assert model.slope is None and model.spearman is None
        alarms += model.leaning_occupations > 0
    # Holm holds the chance of any false alarm to 5 %: more than 12 in 100 would be seen once in 700.
    assert alarms <= 12


def test_a_real_lean_is_found_and_an_unseen_occupation_is_not_judged() -> None:
    log_odds = np.array([[1.5, 1.4, 1.6], [0.1, -0.1, 0.0], [3.0, 3.0, 3.0]])
    p = lean(log_odds, np.array([100, 100, 0]))
    assert p[0] < 1e-6 and p[1] > 0.9 and p[2] == 1


def test_disco_counts_gendered_fills_only() -> None:
    zij, hij = Counter({1: 30, 2: 30, 3: 2}), Counter({1: 30, 2: 1, 3: 3, 4: 30})
    assert gendered_fills(zij, 30, hij, 30) == [2, 4]
    assert gendered_fills(Counter({1: 15}), 30, Counter({1: 15}), 30) == []


def fills(words: dict[str, str]) -> pd.DataFrame:
    """Of 30 persons of each gender, all with the same fill."""
    rows = [
        {"template": template, "gender": gender, "person": f"{gender}{n}", "token_id": ord(word), "word": word}
        for template in TEMPLATES
        for gender, word in words.items()
        for n in range(30)
    ]
    return pd.DataFrame(rows)


def test_disco_is_the_mean_number_of_gendered_fills_a_template() -> None:
    blind = gendered_completions(fills({"zij": "x", "hij": "x"}), 0.05)
    assert blind.score == 0 and blind.templates == {"a": [], "b": [], "c": []}
    tied = fills({"zij": "x", "hij": "y"})
    tied.loc[tied["template"] == "b", ["token_id", "word"]] = [ord("z"), "z"]
    result = gendered_completions(tied, 0.05)
    assert result.score == pytest.approx(4 / 3) and result.templates == {"a": ["x", "y"], "b": [], "c": ["x", "y"]}


def test_preference_has_a_binomial_interval() -> None:
    pairs = pd.DataFrame({"more": [1.0] * 8 + [0.0] * 2, "less": [0.5] * 10, "skipped": False})
    preference = stereotype_preference(pairs)
    assert preference.share == 0.8
    assert preference.interval == pytest.approx([0.4902, 0.9433], abs=1e-4)  # Wilson's interval for 8 of 10
    assert stereotype_preference(pairs.assign(skipped=True)).share is None
    tied = stereotype_preference(
        pd.DataFrame({"more": [1.0, 2.0, 0], "less": [0.0, 2.0, 1], "skipped": [False, False, True]})
    )
    assert (tied.pairs, tied.ties, tied.skipped) == (1, 1, 1)


def stored_run(folder: Path, name: str, planted: float | None) -> Run:
    """A run in which a teacher, two replicates of a milder student and a model from elsewhere were probed."""
    profile = load_profile(name)
    students = {"merged": profile.students["merged"]}
    run = Run(profile.model_copy(update={"students": students, "replicates": 2}), RunPaths(name, folder))
    gender = np.linspace(-1, 1, 30)
    slopes = {"teacher": 2, "merged": 1, "merged.2": 0.8, OTHER: 1.5}
    readings = {n: table(slope * gender, gender, 0.2, seed) for seed, (n, slope) in enumerate(slopes.items())}
    rows = pd.concat([t.assign(model=n, profession_en=t["profession"]) for n, t in readings.items()])
    PronounProbe.write(run, pa.Table.from_pandas(rows, PronounProbe.schemas[0], preserve_index=False))
    real = planted is None
    completions = [fills({"zij": "x", "hij": "y"}).assign(model=n) for n in readings] if real else []
    pairs = [{"model": n, "id": str(i), "bias_type": "gender", "direction": "stereo", "more": 1.0, "less": 0.0,
              "shared": 3, "skipped": i == 0} for n in readings for i in range(4)] if real else []  # fmt: skip
    empty = DiscoFills.schemas[0].empty_table()
    DiscoFills.write(
        run,
        pa.Table.from_pandas(pd.concat(completions), DiscoFills.schemas[0], preserve_index=False) if real else empty,
    )
    CrowsPairsScores.write(run, pa.Table.from_pylist(pairs, CrowsPairsScores.schemas[0]))
    documents = None if real else {f"p{n}": 50 for n in range(30)}
    ProbeResult(professions=30, two_forms=0, left_out={}, planted_strength=planted, documents=documents).write(run)
    return run


def test_what_was_planted_is_concluded_from_files_alone(tmp_path: Path) -> None:
    run = stored_run(tmp_path, "smoke", planted=1.0)
    result = conclude_bias(run)
    assert GenderBiasResult.read(run) == result and conclude_bias(run) == result
    assert list(result.models) == ["teacher", "merged", "merged.2", OTHER]
    assert all(bias.disco is None and bias.crows_pairs is None for bias in result.models.values())
    assert result.planted is not None and result.planted.strength == 1.0
    assert len(result.planted.occupations) == 4 * 30 and result.planted.models["teacher"].leaning_occupations > 0
    assert {(row.group, len(row.replicates)) for row in result.stereotypes} == {
        ("teacher", 1), ("merged", 2), (OTHER, 1)
    }  # fmt: skip
    assert {(row.student, row.replicates) for row in result.comparisons} == {("merged", 2), (OTHER, 1)}
    assert all(row.difference > 0 and row.p < 0.01 for row in result.comparisons if row.student == OTHER)
    assert all(row.n == 3 for row in result.model_order)
    assert tables.planted_table(result).index.tolist() == list(result.models)
    assert not {"DisCo", "CrowS-Pairs"} & set(tables.bias_table(result))


def test_level_and_stereotype_stand_side_by_side_for_each_replicate(tmp_path: Path) -> None:
    result = conclude_bias(stored_run(tmp_path, "smoke", planted=1.0))
    table = tables.bias_table(result)
    assert table.index.tolist() == list(result.models) and table.loc["teacher", "level: log odds"].count(" to ") == 1
    for measure in MEASURES:
        (own,) = [row.replicates for row in result.stereotypes if (row.group, row.measure) == ("merged", measure)]
        assert table.loc[["merged", "merged.2"], measure].tolist() == pytest.approx(own, abs=0.006)
    assert tables.stereotype_table(result)["replicates"].tolist() == [1, 2, 1] * 3


def test_a_replicate_that_was_not_probed_is_missed(tmp_path: Path) -> None:
    run = stored_run(tmp_path, "smoke", planted=1.0)
    rows = PronounProbe.read(run).to_pandas()
    kept = pa.Table.from_pandas(rows[rows["model"] != "merged.2"], PronounProbe.schemas[0], preserve_index=False)
    PronounProbe.write(run, kept)
    with pytest.raises(UserError, match="merged.2 was not probed; run notebook 60_gender_bias again"):
        conclude_bias(run)


def test_on_real_text_completions_and_pairs_are_concluded_too(tmp_path: Path) -> None:
    result = conclude_bias(stored_run(tmp_path, "mini", planted=None))
    assert result.planted is None and tables.planted_table(result).empty
    teacher = result.models["teacher"]
    assert teacher.disco is not None and teacher.disco.score == 2
    assert teacher.crows_pairs is not None and (teacher.crows_pairs.share, teacher.crows_pairs.skipped) == (1.0, 1)
    table = tables.bias_table(result)
    assert table.loc["teacher", "DisCo"] == 2 and table.loc["teacher", "CrowS-Pairs"].startswith("100% (")
    assert list(tables.template_table(result)) == list(TEMPLATES)
    assert tables.bias_comparison_table(result)["student"].tolist() == ["merged", OTHER] * 3
    assert {"professions, teacher", "teacher and students"} <= set(tables.metric_agreement_table(result)["over"])
