"""One case at a time: the tables hold what the result files hold, with a menu and without."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset

from robbertje_lib.evaluation.lines import held_out_lines
from robbertje_lib.evaluation.pseudo_perplexity import pseudo_perplexity
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.finetuning import Predictions
from robbertje_lib.experiment.results.gender_bias import PronounProbe
from robbertje_lib.experiment.results.pseudo_perplexity import TokenLogProbs
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.evaluated import load_evaluated
from robbertje_lib.show import explorers
from robbertje_lib.tasks import TaskData, get_task
from tests.support.tiny_run import tiny_run


@pytest.fixture(autouse=True)
def _nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*explorers.FRONTENDS, explorers.STAGE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny run whose random teacher has scored held-out lines; the students are copies of its rows, but worse."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("scored")
        patch.setenv("ROBBERTJE_OUTPUT", str(folder))
        run = tiny_run(folder)
        lines, documents = zip(*held_out_lines(run, 6), strict=True)
        run = Run(
            run.profile.model_copy(
                update={"pseudo_perplexity": run.profile.pseudo_perplexity.model_copy(update={"lines": 6})}
            ),
            run.paths,
        )
        model = load_evaluated(run, "teacher")
        scores = pseudo_perplexity(model, lines)
    teacher = scores.table("teacher", documents).to_pandas().astype({"model": str})
    worse = teacher.assign(model="student", log_prob=teacher["log_prob"] - 0.1 * (teacher["line"] == 3))
    other = teacher.iloc[::2].assign(model="other", token_id=teacher["token_id"].iloc[::2] + 1)  # cuts lines otherwise
    TokenLogProbs.write(run, pa.Table.from_pandas(pd.concat([teacher, worse, other]), preserve_index=False))
    return run


def test_the_line_on_which_models_differ_most_comes_first(scored: Run) -> None:
    table = TokenLogProbs.read(scored).to_pandas()
    two = pa.Table.from_pandas(table[table["model"] != "other"], preserve_index=False)
    run = Run(scored.profile, paths.RunPaths("two", paths.output_root()))
    TokenLogProbs.write(run, two)
    Path(run.paths.held_out).parent.mkdir(parents=True)
    Path(run.paths.held_out).symlink_to(scored.paths.held_out)
    lines = explorers.line_choices(run)
    assert next(iter(lines.values())) == 3
    assert sorted(lines.values()) == list(range(6))
    assert next(iter(lines)).startswith("3: ")


def test_a_line_shows_every_token_and_their_sum(scored: Run) -> None:
    table = explorers.line_log_probs(scored, 3)
    stored = TokenLogProbs.read(scored).to_pandas().query("line == 3")
    text = held_out_lines(scored, 6)[3].text.split()
    (*places, last), (*tokens, total) = zip(*table.index, strict=True)
    assert all(token in (text[place - 1], "<unk>") for token, place in zip(tokens, places, strict=True))
    assert list(places) == list(range(1, len(text) + 1)) and set(tokens) & set(text)
    assert (last, total) == ("", "sum")
    for model in ("teacher", "student"):
        own = stored.loc[stored["model"] == model, "log_prob"]
        np.testing.assert_allclose(table[model].to_numpy(), [*own, own.sum()], atol=0.0051)


def test_a_model_with_other_tokens_keeps_its_sum(scored: Run) -> None:
    table = explorers.line_log_probs(scored, 3)
    assert table["other"].iloc[:-1].isna().all() and table["other"].iloc[-1] < 0


def test_a_line_that_was_not_scored_is_a_users_error(scored: Run) -> None:
    with pytest.raises(UserError, match="line 99 was not scored"):
        explorers.line_log_probs(scored, 99)


@pytest.fixture
def run() -> Run:
    from tests.support.result_files import make_run

    return make_run(paths.output_root(), "smoke")


def _bias(run: Run) -> None:
    rows = [
        {"model": model, "template": template, "profession": profession, "profession_en": profession, "form": form,
         "associated_gender": None, "p_hij": p, "p_zij": 0.8 - p, "p_ze": None, "p_other_case": 0.0, "rank_hij": 1,
         "rank_zij": 2, "rank_difference": -1, "log_odds": np.log(p / (0.8 - p)), "lpbs": 0.0, "unknown": False}
        for model, shift in (("teacher", 0.0), ("bort", 0.2))
        for template in ("<mask> is een <T>.", "<mask> werkt als een <T>.")
        for profession, form, p in (("schilder", "base", 0.4 + shift), ("arts", "base", 0.4), ("schilderes", "female", 0.1))
    ]  # fmt: skip
    PronounProbe.write(run, pa.Table.from_pylist(rows))


def test_professions_that_models_see_differently_come_first(run: Run) -> None:
    _bias(run)
    assert list(explorers.professions(run)) == ["schilder", "arts"]


def test_a_profession_shows_every_sentence_and_model(run: Run) -> None:
    _bias(run)
    table = explorers.pronouns(run, "schilder")
    assert list(table.index) == [
        (sentence, model)
        for sentence in ("<mask> is een schilder.", "<mask> werkt als een schilder.")
        for model in ("teacher", "bort")
    ]
    assert table["share of zij"].tolist() == [0.5, 0.25, 0.5, 0.25]
    assert "P(ze)" not in table  # unknown to all models
    with pytest.raises(UserError, match="'schilde' was not probed; did you mean 'schilder'"):
        explorers.pronouns(run, "schilde")


def _data(name: str, rows: list[dict[str, object]], kind: str) -> TaskData:
    test = Dataset.from_list(rows)
    return TaskData(get_task(name), kind, (), test, test, test, {})


def test_a_text_shows_gold_and_the_label_of_every_seed(run: Run) -> None:
    said = {("teacher", 1): "ja", ("teacher", 2): "ja", ("bort", 7): "nee", ("bort", 9): "ja"}
    said |= {("random_bort", 1): "nee", ("random_bort", 2): "nee", ("tf_idf", 0): "nee", ("majority", 0): "ja"}
    rows = [
        {
            "model": model,
            "seed": seed,
            "train": 60,
            "test_set": "test",
            "example_id": example,
            "cluster": example,
            "gold": "ja",
            "prediction": label if example == "b" else "ja",
            "n_tokens": 3,
        }
        for (model, seed), label in said.items()
        for example in ("a", "b")
    ]
    # A smaller training split, another test set, and a model that was not asked without fine-tuning.
    others = [rows[0] | {"train": 20, "prediction": "nee"}, rows[0] | {"test_set": "other", "example_id": "x"}]
    others += [rows[0] | {"model": "zero_shot/teacher", "train": 0, "example_id": "b", "prediction": None}]
    Predictions.write(run, pa.Table.from_pylist(rows + others), task="dbrd")
    data = _data(
        "dbrd",
        [{"example_id": i, "text": text, "label": "ja"} for i, text in (("a", "Mooi."), ("b", "<b>Lang.</b> " * 60))],
        "text_classification",
    )
    menu = explorers.examples(run, "dbrd", data)
    assert list(menu.values()) == ["b", "a"]  # the one that they disagree on first
    table = explorers.example_predictions(run, "dbrd", data, "b")
    assert table.index.tolist() == ["gold", "teacher", "bort", "random_bort", "tf_idf", "majority", "zero_shot/teacher"]
    assert table.to_numpy().tolist()[:5] == [["ja", "ja"], ["ja", "ja"], ["nee", "ja"], ["nee", "nee"], ["nee", ""]]
    assert table.loc["zero_shot/teacher"].tolist() == ["not asked", ""]
    assert table.columns[0][0].endswith("… (380 more)") and table.columns[0][1] == "run 1"
    assert "<b>" not in table.to_html()
    with pytest.raises(UserError, match="no test example 'c'"):
        explorers.example_answers(run, "dbrd", "c")
    with pytest.raises(UserError, match="other test examples"):
        explorers.examples(
            run, "dbrd", _data("dbrd", [{"example_id": "x", "text": "Nieuw.", "label": "ja"}], "text_classification")
        )


def test_a_sentence_shows_its_words_and_how_the_seeds_voted(run: Run) -> None:
    said = {
        ("teacher", 1): ["B-PER", "O"],
        ("teacher", 2): ["B-PER", "O"],
        ("bort", 1): ["O", "O"],
        ("bort", 2): ["B-LOC", "O"],
    }
    rows = [
        {"model": model, "seed": seed, "train": 60, "test_set": "test", "example_id": "a", "cluster": "a",
         "gold": ["B-PER", "O"], "prediction": labels, "n_tokens": 4}
        for (model, seed), labels in said.items()
    ]  # fmt: skip
    Predictions.write(run, pa.Table.from_pylist(rows), task="ner")
    data = _data(
        "ner", [{"example_id": "a", "tokens": ["Emma", "loopt"], "labels": ["B-PER", "O"]}], "token_classification"
    )
    table = explorers.example_predictions(run, "ner", data, "a")
    assert table.index.tolist() == ["Emma", "loopt"]
    assert table.loc["Emma"].tolist() == ["B-PER", "B-PER", "O ×1, B-LOC ×1"]
    assert table.loc["loopt"].tolist() == ["O", "O", "O"]


def _show(prefix: str, word: str) -> pd.DataFrame:
    return pd.DataFrame({"said": [prefix + word]})


def test_without_a_frontend_the_first_choice_is_shown() -> None:
    table = explorers.explore(_show, "hij ", word={"to sing": "zingt", "to run": "rent"})
    assert table["said"].tolist() == ["hij zingt"]


@pytest.mark.parametrize("name", explorers.FRONTENDS)
def test_with_a_frontend_there_is_a_menu_of_all_choices(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    box = explorers.explore(_show, "hij ", word={"to sing": "zingt", "to run": "rent"})
    (menu,) = box.kwargs_widgets
    assert dict(menu.options) == {"to sing": "zingt", "to run": "rent"}
    menu.value = "rent"
    box.update()
    assert box.result["said"].tolist() == ["hij rent"]


def test_a_stage_that_a_notebook_started_shows_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "00_start_here.ipynb")
    monkeypatch.setenv(explorers.STAGE, "1")
    assert isinstance(explorers.explore(_show, "hij ", word={"to sing": "zingt"}), pd.DataFrame)


def test_nothing_to_choose_is_a_users_error() -> None:
    with pytest.raises(UserError, match="there is no word to choose"):
        explorers.explore(partial(_show, "hij "), word={})
