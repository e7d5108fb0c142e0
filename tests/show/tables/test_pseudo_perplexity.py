"""Tables of pseudo-perplexity, from records and from log-probabilities of every token."""

from pathlib import Path

import pytest

from robbertje_lib.evaluation.pseudo_perplexity import pseudo_perplexity
from robbertje_lib.experiment.results.pseudo_perplexity import PseudoPerplexityResult, TokenLogProbs
from robbertje_lib.experiment.run import open_run
from robbertje_lib.models.masked_lm import load_masked_lm
from robbertje_lib.show.tables.pseudo_perplexity import (
    bounds_table,
    library_table,
    pseudo_perplexity_table,
    words_that_gain_most,
)
from tests.support.small_models import LINES, save_small_model


def test_models_what_brackets_them_and_the_words_that_gain(tmp_path: Path) -> None:
    folder = str(save_small_model("bert", tmp_path))
    model = load_masked_lm(folder)
    scores = pseudo_perplexity(model, ["Zij werkt als een ziekenhuisdirecteur.", *LINES[:2], LINES[2], "hij"])
    summary = scores.summary()
    result = PseudoPerplexityResult(
        lines=5, documents=2, tokens=summary.tokens, windowed=0, dropped={}, models={"teacher": summary, "bort": summary},
        unigram=400.0, floor=None, floor_per_line_mean=None,
    )  # fmt: skip
    table = pseudo_perplexity_table(result)
    assert list(table.index) == ["teacher", "bort"] and table.loc["bort", "corpus"] == round(summary.corpus, 2)
    assert table["paper"].to_dict() == {"teacher": 7.76, "bort": 26.44}
    assert "paper" not in pseudo_perplexity_table(result.model_copy(update={"floor": 9.3}))  # known-answer Dutch
    assert library_table(result).to_numpy().tolist() == [[4, 1, 0]] * 2
    assert bounds_table(result).to_dict() == {"unigram": 400.0, "teacher": round(summary.corpus, 2)}
    run = open_run("smoke")
    TokenLogProbs.write(run, scores.table(folder, ["a", "a", "a", "b", "b"]))
    words = words_that_gain_most(run, folder, count=100)
    row = words[words["word"] == "ziekenhuisdirecteur"].iloc[0]
    assert row["occurrences"] == 2 and row["pieces"] == len(model.tokenizer.tokenize("ziekenhuisdirecteur")) > 1
    assert (words["gain"] - (words["alone"] - words["word_l2r"])).abs().max() == pytest.approx(0, abs=0.02)
    assert words["gain"].is_monotonic_decreasing and "hij" not in set(words["word"])
