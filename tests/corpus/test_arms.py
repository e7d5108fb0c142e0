"""Arms: the paper's three in both selections, and what a profile may list."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from robbertje_lib.corpus import arms
from robbertje_lib.corpus.lines import SplitDocument, document_lines
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import Corpus, load_profile, parse_profile
from tests.support.own_text import ARMS, documents

some_documents = st.lists(st.integers(1, 30), min_size=1, max_size=8).map(lambda sizes: documents(*sizes))


@given(some_documents, st.integers(1, 600), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_arms_and_selections(parts: list[SplitDocument], size: int, seed: int) -> None:
    chosen = Corpus(sources=["novels"], arms=ARMS, arm_megabytes=size / 1e6, selections=["head", "same_lines"])
    made = arms.make_arms(parts, chosen, seed)
    assert list(made) == [(selection, arm) for selection in ("head", "same_lines") for arm in ARMS]
    every = list(document_lines(parts))
    for (selection, _), lines in made.items():
        assert lines
        total = sum(len(line.text.encode()) + 1 for line in lines)
        assert total <= size or len(lines) == 1 or selection == "same_lines"
    for arm in ("non_shuffled", "shuffled"):
        assert set(made["head", arm]) <= set(every)
    assert made["head", "non_shuffled"] == every[: len(made["head", "non_shuffled"])]
    base = made["same_lines", "non_shuffled"]
    assert sorted(made["same_lines", "shuffled"]) == sorted(base)
    assert " ".join(line.text for line in made["same_lines", "merged"]) == " ".join(line.text for line in base)
    assert made == arms.make_arms(parts, chosen, seed)
    for arm in ("non_shuffled", "merged"):  # sequential: their head is what they hold of the same lines
        kept, whole = (" ".join(line.text for line in made[selection, arm]) for selection in ("head", "same_lines"))
        assert whole.startswith(kept) or len(made["head", arm]) == 1


def test_an_arm_is_the_same_whatever_others_there_are() -> None:
    parts = documents(9, 30, 4)
    chosen = Corpus(sources=["novels"], arms=ARMS, arm_megabytes=2e-4, selections=["head", "same_lines"])
    made = arms.make_arms(parts, chosen, 1)
    other = chosen.model_copy(update={"arms": ["shuffled"], "merge_probability": 0.1})
    alone = arms.make_arms(parts, other, 1)
    assert alone == {key: lines for key, lines in made.items() if key[1] == "shuffled"}


def test_every_arm_says_what_it_is() -> None:
    assert set(ARMS) <= set(arms.all_arms())
    assert [name for name in ARMS if arms.get_arm(name).merges] == ["merged"]
    assert [name for name in ARMS if arms.get_arm(name).sequential] == ["non_shuffled", "merged"]
    assert all(arm.description for arm in arms.all_arms().values())


def test_an_arm_that_there_is_not_names_the_nearest() -> None:
    raw = yaml.safe_load((paths.PROFILES / "smoke.yaml").read_text(encoding="utf-8"))
    raw["corpus"]["arms"].append("merge")
    with pytest.raises(UserError, match="^corpus.arms: no arm 'merge': did you mean 'merged'"):
        arms.check_arms(parse_profile(raw))
    raw = yaml.safe_load((paths.PROFILES / "published.yaml").read_text(encoding="utf-8"))
    raw["students"]["bort"]["arm"] = "shufled"
    with pytest.raises(UserError, match="^students.bort.arm: no arm 'shufled': did you mean 'shuffled'"):
        arms.check_arms(parse_profile(raw))


def test_one_student_of_a_sequential_arm_serves_both_selections() -> None:
    raw = yaml.safe_load((paths.PROFILES / "smoke.yaml").read_text(encoding="utf-8"))
    raw["corpus"]["selections"] = ["head", "same_lines"]
    raw["students"]["shuffled_same_lines"] = {**raw["students"]["shuffled"], "selection": "same_lines"}
    raw["students"]["small"] = {**raw["students"]["merged"], "selection": "same_lines", "shape": "bort"}
    arms.check_arms(parse_profile(raw))  # `shuffled` holds other lines there, and no other student is `small`
    raw["students"]["again"] = {**raw["students"]["merged"], "selection": "same_lines"}
    with pytest.raises(UserError, match="^students.again: trained on the lines of 'merged', .*; leave again out$"):
        arms.check_arms(parse_profile(raw))


@pytest.mark.parametrize("name", sorted(path.stem for path in paths.PROFILES.glob("*.yaml")))
def test_the_profiles_list_arms_that_there_are(name: str) -> None:
    arms.check_arms(load_profile(name))


def test_file_and_arm_have_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from robbertje_lib.corpus.arms import Arm\nARM = Arm('reversed', 'backwards', list)\n"
    (tmp_path / "omgekeerd.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(arms, "__path__", [*arms.__path__, str(tmp_path)])
    with pytest.raises(UserError, match=r"arms/omgekeerd.py: its arm is called 'reversed'; give both one name"):
        arms.all_arms()
