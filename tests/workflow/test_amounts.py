"""How much work a stage is follows from the settings that make it longer, and from no others."""

from typing import Any

import pytest

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.profile import Profile, load_profile, parse_profile, read_yaml
from robbertje_lib.workflow.amounts import Amounts, UnknownWork


def profile(name: str, **changes: Any) -> Profile:
    """A profile with some settings changed: `teacher__tokens=5`."""
    raw = read_yaml((paths.PROFILES / f"{name}.yaml").read_text(encoding="utf-8"), name)
    for place, value in changes.items():
        *sections, last = place.split("__")
        section = raw
        for key in sections:
            section = section[key]
        section[last] = value
    return parse_profile(raw)


def amounts(stage: str, kind: str, name: str = "demo", **changes: Any) -> float:
    return sum(part.amount for part in Amounts(profile(name, **changes)).of(stage) if part.kind == kind)


@pytest.mark.parametrize(
    ("stage", "kind", "change", "times"),
    [
        ("20_teacher", "train", {"teacher__tokens": 32_000_000}, 10),
        ("20_teacher", "score", {"teacher__tokens": 32_000_000}, 1),  # held-out losses are made by tenths
        ("30_distillation-merged", "train", {"recipes__fast__amount": 4_000_000}, 10),
        ("40_pseudo_perplexity", "score", {"pseudo_perplexity__lines": 1200}, 3),
        ("50_finetuning-ner", "finetune", {"finetuning__epochs": 10.0}, 2),
        ("50_finetuning-ner", "finetune", {"finetuning__seeds": [1, 2, 3, 4]}, 2),
        ("50_finetuning-ner", "finetune", {"finetuning__tasks__ner__train": [100, 200, 300]}, 3),
        ("10_corpus", "other", {"corpus__arm_megabytes": 4.0}, 2),
        ("70_significance", "other", {"significance": {"permutations": 20_000}}, 2),
    ],
)
def test_more_work_is_longer(stage: str, kind: str, change: dict[str, Any], times: float) -> None:
    assert amounts(stage, kind, **change) == pytest.approx(times * amounts(stage, kind))


def test_a_search_and_replicates_are_further_runs() -> None:
    one = amounts("50_finetuning-ner", "finetune")
    searched = amounts("50_finetuning-ner", "finetune", finetuning__trials=4)
    # Five models and three controls, each with 2 runs, and 4 trials besides.
    assert searched == pytest.approx(one * (2 + 4) / 2)
    assert amounts("40_pseudo_perplexity", "score", replicates=3) > 2 * amounts("40_pseudo_perplexity", "score") / 1.5


@pytest.mark.parametrize(
    ("unit", "amount", "tokens"),
    [("tokens", 1000, 1000), ("updates", 7, 7 * 2048), ("sequences", 50, 500), ("epochs", 2, 2 * 2e6 / 4.4)],
)
def test_an_amount_in_any_unit_is_told_in_tokens(unit: str, amount: int, tokens: float) -> None:
    changed = profile("demo", recipes__fast__amount=amount, recipes__fast__amount_unit=unit)
    assert Amounts(changed).tokens_seen("non_shuffled") == pytest.approx(tokens)


def test_every_stage_of_every_profile_has_its_work() -> None:
    for path in paths.PROFILES.glob("*.yaml"):
        told = Amounts(load_profile(path.stem))
        for stage in told.profile.stages:
            assert sum(part.seconds for part in told.of(stage)) > 0, (path.stem, stage)


def test_a_wider_model_takes_longer_a_token() -> None:
    (narrow, *_), (wide, *_) = (
        Amounts(profile("demo", teacher__hidden=width)).of("20_teacher") for width in (128, 256)
    )
    assert 2 < wide.reference / narrow.reference < 4 and narrow.unit != wide.unit


def test_a_model_that_is_not_there_has_a_size_only_where_it_is_known() -> None:
    known = profile("published")
    assert Amounts(known).teacher.hidden == 768
    other = known.model_copy(update={"teacher": known.teacher.model_copy(update={"hub": "someone/else"})})
    with pytest.raises(UnknownWork, match="the size of someone/else is not known before it is downloaded"):
        Amounts(other).of("40_pseudo_perplexity")


def test_all_examples_are_a_number_that_nobody_knows_yet() -> None:
    told = Amounts(profile("published"))
    assert told.unsettled("50_finetuning-ner") and not told.unsettled("50_finetuning-die_dat")
