"""What every figure says of its origin."""

from pathlib import Path

from robbertje_lib.experiment.run import Run
from robbertje_lib.show.figure_style import stamp
from tests.support.result_files import make_run


def test_figures_of_a_sweep_can_be_told_apart(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert "· merged p = 0.5 ·" in stamp(run)
    corpus = run.profile.corpus
    for changed, told in (({"merge_probability": 0.25}, "merged p = 0.25"), ({"arms": ["shuffled"]}, None)):
        profile = run.profile.model_copy(update={"corpus": corpus.model_copy(update=changed)})
        origin = stamp(Run(profile, run.paths))
        assert told in origin if told else "p =" not in origin
