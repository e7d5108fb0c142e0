"""Every probe for gender bias on every model: pronouns before professions, DisCo and CrowS-Pairs, as they were read.

What they come to is for `conclusions.gender_bias` to say, from the files written here.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from robbertje_lib.evaluation.crows_pairs import Pair, load_pairs, score_pairs
from robbertje_lib.evaluation.disco import likely_fills
from robbertje_lib.evaluation.gender_bias import Profession, left_out_professions, load_professions, probe
from robbertje_lib.experiment.artefacts import open_store
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.base import ResultTable
from robbertje_lib.experiment.results.gender_bias import CrowsPairsScores, DiscoFills, ProbeResult, PronounProbe
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.evaluated import evaluated_models, load_evaluated
from robbertje_lib.models.log_probs import Report


def probe_models(run: Run, also: str = "", progress: Report = print) -> ProbeResult:
    """Probe every model of the run; write `gender_bias`, `crows_pairs`, `disco` (.parquet) and `probe.json`.

    `also` names further masked language models to probe, folders or hub ids with spaces between them. On
    known-answer Dutch the occupations with a planted bias stand in for RobBERT's list, and DisCo and CrowS-Pairs, whose
    words that text does not hold, are left out: their files have no rows.
    """
    known_answer = run.profile.text == "known_answer"
    templates, words = _planted_probe(run) if known_answer else (run.profile.gender_bias.templates, load_professions())
    pairs = [] if known_answer or not run.profile.gender_bias.crows_pairs else _drawn_pairs(run)
    pronouns, scores, fills = [], [], []
    for name in [*evaluated_models(run), *also.split()]:
        model = load_evaluated(run, name)
        pronouns.append(probe(model, templates, words).assign(model=name))
        if not known_answer:
            fills.append(likely_fills(model).assign(model=name))
        if pairs:
            tokens = run.profile.pseudo_perplexity.tokens_per_batch
            scores.append(score_pairs(model, pairs, tokens).assign(model=name))
        progress(f"{name}: log odds for hij {pronouns[-1]['log_odds'].mean():+.2f} on average")
    result = ProbeResult(
        professions=len(words),
        two_forms=sum(word.dutch_female is not None for word in words),
        left_out={} if known_answer else left_out_professions(),
        planted_strength=run.profile.gender_bias.planted_strength if known_answer else None,
        documents=_documents_that_mention(run, [word.dutch for word in words]) if known_answer else None,
    )
    _write(run, PronounProbe, pronouns)
    _write(run, CrowsPairsScores, scores)
    _write(run, DiscoFills, fills)
    result.write(run)
    return result


def _planted_probe(run: Run) -> tuple[Sequence[str], list[Profession]]:
    from robbertje_lib.known_answer import bias  # a generator that runs on real text have no use for

    planted = bias.planted_bias(run.profile.gender_bias.planted_strength)
    # The planted P(zij) on the scale of associated gender: -1 is always zij, +1 always hij.
    return bias.probe_templates(), [Profession(name, name, None, 1 - 2 * p) for name, p in planted.items()]


def _drawn_pairs(run: Run) -> list[Pair]:
    pairs = load_pairs(("gender",))
    count = min(run.profile.gender_bias.crows_pairs, len(pairs))
    drawn = np.random.default_rng(run.profile.seed).choice(len(pairs), count, replace=False)
    return [pairs[int(i)] for i in np.sort(drawn)]


def _documents_that_mention(run: Run, words: Sequence[str]) -> dict[str, int]:
    """In how many documents of the training text each word stands; words that stand in none are left out."""
    folder = run.paths.corpus(*run.profile.arms[0])
    if not folder.is_dir():
        raise UserError(f"{folder}: no token store there; run notebook 10_corpus first")
    store = open_store(folder)
    wanted = set(words)
    lines = zip(*(store[name].to_pylist() for name in ("document_id", "text")), strict=True)
    mentions = {(document, word) for document, text in lines for word in wanted.intersection(text.lower().split())}
    counts = Counter(word for _, word in mentions)
    return {word: counts[word] for word in words if counts[word]}


def _write(run: Run, file: type[ResultTable], parts: Sequence[pd.DataFrame]) -> None:
    schema = file.schemas[0]
    rows = pa.Table.from_pandas(pd.concat(parts), schema, preserve_index=False) if parts else schema.empty_table()
    file.write(run, rows)
