"""The corpus in tables: what was read and left out, the arms, and what is in the token stores."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import pandas as pd

from robbertje_lib.corpus.arms import get_arm
from robbertje_lib.corpus.pool import Split
from robbertje_lib.experiment import profile
from robbertje_lib.experiment.results.corpus import ArmResult, DocumentsResult, SourceRead, StoreFigures

FIGURES = ["documents", "lines", "sequences", "tokens", "bytes", "split_lines", "unknown_tokens", "mean_tokens"]


def arms_table(settings: profile.Corpus) -> pd.DataFrame:
    """How each arm orders its text, and with which probability it joins the next line, if it does."""
    arms = [get_arm(name) for name in settings.arms]
    return pd.DataFrame(
        {
            "text": [arm.description for arm in arms],
            "merge probability": [f"{settings.merge_probability:g}" if arm.merges else None for arm in arms],
        },
        index=pd.Index(settings.arms, name="arm"),
    )


def sources_table(read: Mapping[str, SourceRead]) -> pd.DataFrame:
    """Files, documents, lines and megabytes of each source."""
    frame = pd.DataFrame([source.model_dump() for source in read.values()], index=pd.Index(list(read), name="source"))
    frame["megabytes"] = (frame.pop("bytes") / 1e6).round(2)
    return frame


def parts_table(split: Split) -> pd.DataFrame:
    """Files (books, manifestos or what else is held out whole), documents, lines and megabytes of both parts."""
    rows = {
        name: {
            "files": len({document.file for document in part}),
            "documents": len(part),
            "lines": sum(len(document.lines) for document in part),
            "megabytes": round(sum(document.bytes for document in part) / 1e6, 2),
        }
        for name, part in (("training", split.training), ("held out", split.held_out))
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("part")


def left_out_table(dropped: Mapping[str, int]) -> pd.DataFrame:
    """How much was left out, by reason, most first."""
    rows = sorted(dropped.items(), key=lambda row: -row[1])
    return pd.DataFrame(rows, columns=["reason", "count"]).set_index("reason")


def stores_table(documents: DocumentsResult, arms: Sequence[ArmResult]) -> pd.DataFrame:
    """A row a token store: the held-out part, the teacher's text, and every arm in every selection."""
    stores: dict[tuple[str, str], StoreFigures] = {("", "held_out"): documents.held_out}
    if documents.teacher:
        stores["", "teacher"] = documents.teacher
    stores |= _by_selection(arms)
    index = pd.MultiIndex.from_tuples(list(stores), names=["selection", "text"])
    return pd.DataFrame([store.model_dump(include=set(FIGURES)) for store in stores.values()], index)[FIGURES].round(1)


def length_table(arms: Sequence[ArmResult]) -> pd.DataFrame:
    """Share of each arm's sequences by length in tokens, `<s>` and `</s>` included; empty bins are left out."""
    columns = {}
    for place, store in _by_selection(arms).items():
        histogram = store.length_histogram
        bins = [f"{low} to {high - 1}" for low, high in pairwise(histogram.edges)]
        columns[place] = pd.Series(histogram.counts, index=bins) / sum(histogram.counts)
    table = pd.DataFrame(columns).rename_axis("tokens")
    return table[table.sum(axis=1) > 0].round(3)


def sample_table(arms: Sequence[ArmResult]) -> pd.DataFrame:
    """The random lines of each arm that its result file keeps."""
    return pd.DataFrame([(arm.arm, line) for arm in arms for line in arm.sample_lines], columns=["arm", "line"])


def _by_selection(arms: Sequence[ArmResult]) -> dict[tuple[str, str], StoreFigures]:
    """(selection, arm) -> its store, by selection first."""
    selections = dict.fromkeys(selection for arm in arms for selection in arm.selections)
    return {(selection, arm.arm): arm.selections[selection] for selection in selections for arm in arms}
