"""The report: whole, self-contained, accessible, escaped."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.claims import ClaimsResult, ClaimVerdict
from robbertje_lib.experiment.run import Run
from robbertje_lib.show import figures
from robbertje_lib.show.report import write_report
from robbertje_lib.show.tables import claims, formatting
from tests.support.result_files import make_concluded_run, make_run


class Page(HTMLParser):
    """Tags, links and words of a page; an unclosed or misnested tag is an error."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_concluded_run(tmp_path_factory.mktemp("report"), ("pseudo_perplexity", "claims"))


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    sources = [attrs.get("src") or attrs.get("href") for _, attrs in page.tags if "src" in attrs or "href" in attrs]
    assert sources and all(source and source.startswith(("data:", "#")) for source in sources)
    assert "script" not in {tag for tag, _ in page.tags}


def test_every_link_of_the_page_leads_somewhere(page: Page) -> None:
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert len(links) >= 7 and {str(link)[1:] for link in links} <= set(ids)


def test_figures_have_alt_texts_and_come_in_order(page: Page) -> None:
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert [picture["alt"] for picture in pictures] == [
        figures.get_figure(name).caption for name in ("pseudo_perplexity", "claims")
    ]


def test_it_holds_claims_instruments_stages_and_what_is_missing(page: Page, run: Run) -> None:
    result = ClaimsResult.read(run)
    for row in result.claims:
        assert " ".join(row.claim.split()) in page.text and " ".join(row.reason.split()) in page.text
    assert all(row.detail in page.text for row in result.instruments)
    assert "Gradients were accumulated" in page.text  # a confound
    assert "no evidence about the paper" in page.text
    assert "1 min" in page.text and "2,000 MB" in page.text and "0123456789+" in page.text
    missing = [stage for stage in run.profile.stages if stage not in page.text.split("Not run")[-1]]
    assert missing == ["40_pseudo_perplexity", "90_claims_and_figures"]


def changed_page(run: Run, place: int, **fields: object) -> tuple[Page, ClaimVerdict]:
    """The page with other fields in one of the claims, and that claim."""
    result = ClaimsResult.read(run)
    claim = result.claims[place].model_copy(update=fields)
    others = result.claims[:place], result.claims[place + 1 :]
    try:
        result.model_copy(update={"claims": [*others[0], claim, *others[1]]}).write(run)
        return Page(write_report(run).read_text(encoding="utf-8")), claim
    finally:
        result.write(run)


def test_html_in_results_is_shown_not_run(run: Run) -> None:
    page, claim = changed_page(run, 0, reason="<script>alert('x')</script>")
    assert "script" not in {tag for tag, _ in page.tags} and "alert('x')" in page.text
    table = claims.claims_table(ClaimsResult.read(run).model_copy(update={"claims": [claim]}))
    assert "<script>" not in formatting.as_html(table)


def test_a_conclusion_that_changes_between_settings_is_told_above_the_claims(run: Run, page: Page) -> None:
    assert "depends on the setting" not in page.text  # there is one
    changed, claim = changed_page(run, 2, changes=True)
    told = changed.text.split("The conclusion depends on the setting")[1]
    assert claim.claim in told.split("undecided")[0]
    assert changed.text.count("another verdict in another setting") == 1


def test_without_claims_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"claims\.json is missing"):
        write_report(make_run(tmp_path))
