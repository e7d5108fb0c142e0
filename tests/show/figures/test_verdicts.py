"""Figures of what a run concludes: every verdict, the paper's distances beside ours, a point for each student."""

import numpy as np
import pytest

from robbertje_lib.conclusions.claims.decide import CLAIMS
from robbertje_lib.experiment.results.claims import ClaimsResult
from robbertje_lib.experiment.results.finetuning import TEST
from robbertje_lib.experiment.results.pseudo_perplexity import PseudoPerplexityResult
from robbertje_lib.experiment.results.significance import SignificanceResult
from robbertje_lib.experiment.run import Run
from robbertje_lib.show import figures
from tests.support.result_files import World, conclude, make_run, write_results


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("verdicts"), "mini", ("dbrd", "ner"), replicates=2, sizes=(100, 300))
    write_results(run, World(examples=60, skill={"teacher": 0.9, "bort": 0.6}))
    conclude(run)
    return run


def test_every_verdict_has_a_cell_and_the_papers_table_a_column(run: Run) -> None:
    rows = ClaimsResult.read(run).claims
    (axes,) = figures.plot(run, "claims").axes
    on_paper = {row.id: row.published_verdict for row in rows if row.published_verdict}
    shown = sorted(text.get_text().split("\n")[0] for text in axes.texts)
    assert shown == sorted(verdict.replace("_", " ") for verdict in [*(r.verdict for r in rows), *on_paper.values()])
    settings = dict.fromkeys(row.setting for row in rows)
    assert (len(axes.get_yticks()), len(axes.get_xticks())) == (len(CLAIMS), len(settings) + 1)


def test_an_undecided_cell_says_why(run: Run) -> None:
    result = ClaimsResult.read(run)
    first = result.claims[0]
    changes = [{"reason": "one run each, which says nothing"}, {"bounded": True, "reason": "because"}, {}]
    try:
        for change, told in zip(changes, ["\n(one run each)", "\n(no difference of interest)", ""], strict=True):
            row = first.model_copy(update={"verdict": "undecided", "reason": "because", "bounded": None, **change})
            result.model_copy(update={"claims": [row]}).write(run)
            assert figures.plot(run, "claims").axes[0].texts[0].get_text() == f"undecided{told}"
    finally:
        result.write(run)


def test_pseudo_perplexity_is_compared_as_the_paper_counts_it(run: Run) -> None:
    models = PseudoPerplexityResult.read(run).models
    panel = figures.plot(run, "published_and_ours").axes[0]
    assert panel.get_title(loc="left") + panel.get_title() == "PPPL"
    filled = [line.get_xdata()[0] for line in panel.lines if line.get_markerfacecolor() not in {"white", "None"}
              and line.get_marker() == "o"]  # fmt: skip
    ours = [np.log(models[name].as_published / models["teacher"].as_published) for name in ("bort", "bort.2")]
    assert np.isclose(filled[-1], np.mean(ours))


def test_size_and_speed_has_a_point_for_the_teacher_and_each_student(run: Run) -> None:
    panel = figures.plot(run, "size_and_speed").axes[0]
    assert len(panel.lines) == len(run.profile.groups)
    rows = [
        row
        for row in SignificanceResult.read(run).scores
        if (row.group, row.train, row.test_set) == ("bort", 300, TEST)
    ]
    place = list(run.profile.groups).index("bort")
    assert np.isclose(panel.lines[place].get_ydata()[0], 100 * np.mean([row.score for row in rows]))
