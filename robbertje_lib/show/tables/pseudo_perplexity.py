"""Tables of `40_pseudo_perplexity`."""

import pandas as pd
import pyarrow.compute as pc

from robbertje_lib.conclusions.published import published_score
from robbertje_lib.experiment.profile import Profile
from robbertje_lib.experiment.results.pseudo_perplexity import PseudoPerplexityResult, TokenLogProbs
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.evaluated import load_evaluated


def pseudo_perplexity_table(result: PseudoPerplexityResult) -> pd.DataFrame:
    """One row a model: the pseudo-perplexities, tokens and seconds.

    On real text also `paper`, the published value, to be read against `as_published`.
    """
    columns = ["corpus", "per_line_mean", "as_published", "word_l2r", "tokens", "seconds"]
    rows = {name: model.model_dump(include=set(columns)) for name, model in result.models.items()}
    table = pd.DataFrame.from_dict(rows, orient="index")[columns].round(2)
    if result.floor is None:
        cells = [published_score(Profile.student_of(name), "pseudo_perplexity") for name in table.index]
        table.insert(columns.index("as_published") + 1, "paper", [cell and cell.value for cell in cells])
    return table


def library_table(result: PseudoPerplexityResult) -> pd.DataFrame:
    """What the rules of the paper's library do to the lines: one row a model."""
    columns = {
        "as_published_lines": "lines scored",
        "as_published_dropped": "of 10 characters or fewer, dropped",
        "as_published_cut": "longer than the model takes, cut",
    }
    rows = {name: model.model_dump(include=set(columns)) for name, model in result.models.items()}
    return pd.DataFrame.from_dict(rows, orient="index")[list(columns)].rename(columns=columns)


def bounds_table(result: PseudoPerplexityResult) -> pd.Series:
    """PPPL of what brackets the models: the unigram model, the teacher, and the floor where it is known."""
    bounds = {"unigram": result.unigram, "teacher": result.models["teacher"].corpus}
    if result.floor is not None:
        bounds["floor"] = result.floor
    return pd.Series(bounds, name="PPPL").round(2)


def words_that_gain_most(run: Run, model: str = "teacher", count: int = 20) -> pd.DataFrame:
    """The words whose own tail gave away most: nats lost when later pieces are masked too.

    One row a word with `pieces`, `alone` and `word_l2r` (its pseudo-log-likelihood in nats, mean over
    occurrences), and `gain` = alone - word_l2r, the largest first. A word that is one token cannot gain.
    """
    table = TokenLogProbs.read(run)
    tokens = table.filter(pc.equal(table["model"], model)).to_pandas()
    tokenizer = load_evaluated(run, model).tokenizer
    words = tokens.groupby(["line", "word_index"]).agg(
        ids=("token_id", tuple), alone=("log_prob", "sum"), word_l2r=("log_prob_l2r", "sum")
    )
    words["pieces"] = words["ids"].map(len)
    words = words[words["pieces"] > 1].copy()
    words["word"] = words["ids"].map(lambda ids: tokenizer.decode(list(ids)).strip())
    means = words.groupby("word").agg(
        pieces=("pieces", "first"),
        occurrences=("pieces", "size"),
        alone=("alone", "mean"),
        word_l2r=("word_l2r", "mean"),
    )
    means["gain"] = means["alone"] - means["word_l2r"]
    return means.sort_values("gain", ascending=False).head(count).reset_index().round(2)
