"""The sentence patterns of known-answer Dutch: how a document opens, and how it goes on.

Every pattern stands in `opening` or `continuing` with its weight; an example follows in a comment.
"""

from collections.abc import Mapping

from robbertje_lib.known_answer.grammar import Choice, Node, choice, seq
from robbertje_lib.known_answer.phrases import Phrases

# Factors on the weights below. A review judges its item more than a story does; a portrait describes with clauses.
REGISTERS: Mapping[str, Mapping[str, float]] = {
    "story": {},
    "review": {"item_is": 4, "finds": 4, "says_judgement": 4, "verdict": 4, "exclaims": 4, "relative_object": 2},
    "portrait": {"relative_subject": 8, "relative_object": 8, "relative_person": 8, "relative_people": 8},
}


def opening(p: Phrases) -> dict[str, tuple[float, Node]]:
    """Patterns of a document's first sentence: name -> (weight, pattern). They bring the person on stage."""
    w = p.word
    een, stop = w("een", "DET"), w(".", "PUNCT")
    works_as = seq(w("werkt", "VERB"), w("als", "SCONJ"), p.occupation)
    return {
        # Anna Visser woont in Gent en werkt als kok .
        "lives_works": (
            3, seq(p.full_name(), w("woont", "VERB"), w("in", "ADP"), p.city, w("en", "CCONJ"), works_as, stop),
        ),
        # Anna is een kok uit Gent .
        "is_from": (
            3, seq(p.full_name(), w("is", "AUX"), een, p.occupation, w("uit", "ADP"), p.city, stop),
        ),
        # In Gent woont een kok die Anna heet .
        "is_called": (
            2,
            seq(
                w("in", "ADP"), p.city, w("woont", "VERB"), een, p.occupation,
                p.relative_pronoun("de"), p.full_name(), w("heet", "VERB"), stop,
            ),
        ),
        # Anna werkt als kok bij Bakkerij Visser in Gent .
        "works_at": (
            3, seq(p.full_name(), works_as, w("bij", "ADP"), p.organisation, w("in", "ADP"), p.city, stop),
        ),
        # Dit is het verhaal van Anna , een kok uit Gent .
        "story_of": (
            1,
            seq(
                w("dit", "PRON"), w("is", "AUX"), w("het", "DET"), w("verhaal", "NOUN"), w("van", "ADP"), p.full_name(),
                w(",", "PUNCT"), een, p.occupation, w("uit", "ADP"), p.city, stop,
            ),
        ),
    }  # fmt: skip


def continuing(p: Phrases) -> dict[str, tuple[float, Node]]:
    """Patterns of all later sentences: name -> (weight, pattern)."""
    w = p.word
    stop, comma = w(".", "PUNCT"), w(",", "PUNCT")
    een, is_, heeft = w("een", "DET"), w("is", "AUX"), w("heeft", "AUX")
    something = p.some_thing
    return {
        # The first three are the bias probe's templates: nothing but the pronoun tells who it is.
        # Zij is een kok .
        "is_a": (9, seq(p.pronoun, is_, een, p.occupation, stop)),
        # Zij werkt als een kok .
        "works_as_a": (9, seq(p.pronoun, w("werkt", "VERB"), w("als", "SCONJ"), een, p.occupation, stop)),
        # Zij gaat naar een kok .
        "goes_to_a": (9, seq(p.pronoun, w("gaat", "VERB"), w("naar", "ADP"), een, p.occupation, stop)),
        # Zij snijdt de rijpe appel .
        "does": (10, p.each_group(lambda k: seq(p.subject(), p.verb(k, "present"), something(k), stop))),
        # Haar zus snijdt een appel in de keuken .
        "does_there": (
            6, p.each_group(lambda k: seq(p.subject(), p.verb(k, "present"), something(k), p.in_place(), stop)),
        ),
        # Gisteren sneed zij een appel .
        "did": (8, p.each_group(lambda k: seq(p.past, p.verb(k, "past"), p.subject(), something(k), stop))),
        # In de keuken snijdt zij een appel .
        "there_does": (
            6, p.each_group(lambda k: seq(p.in_place(), p.verb(k, "present"), p.subject(), something(k), stop)),
        ),
        # Zij heeft gisteren een appel gesneden .
        "has_done": (
            7,
            p.each_group(
                lambda k: seq(p.subject(), heeft, _maybe(p.past_inside, something(k)), p.verb(k, "participle"), stop)
            ),
        ),
        # Zij wil een appel snijden .
        "wants": (6, p.each_group(lambda k: seq(p.subject(), p.modal, something(k), p.verb(k, "infinitive"), stop))),
        # Haar zus zegt dat zij een appel snijdt .
        "says_that": (
            5,
            p.each_group(
                lambda k: seq(
                    p.subject(), p.reports, w("dat", "SCONJ"), p.pronoun, something(k), p.verb(k, "present"), stop
                )
            ),
        ),
        # Zij is blij omdat haar zus een appel gesneden heeft .
        "because": (
            5,
            p.each_group(
                lambda k: seq(
                    p.subject(), is_, p.mood, w("omdat", "SCONJ"), p.subject(named=False), something(k),
                    p.verb(k, "participle"), heeft, stop,
                )
            ),
        ),
        # Terwijl zij een appel snijdt , wast haar zus een pan .
        "while": (
            4,
            seq(
                w("terwijl", "SCONJ"),
                p.each_group(lambda k: seq(p.pronoun, something(k), p.verb(k, "present"))),
                comma,
                p.each_group(lambda k: seq(p.verb(k, "present"), p.kin(), something(k))),
                stop,
            ),
        ),
        # Als zij een appel snijdt , is haar zus blij .
        "when": (
            3,
            p.each_group(
                lambda k: seq(
                    w("als", "SCONJ"), p.pronoun, something(k), p.verb(k, "present"), comma, is_, p.kin(), p.mood, stop
                )
            ),
        ),
        # De appel is heel mooi .
        "item_is": (5, seq(p.the_item(), is_, p.judged(), stop)),
        # Zij vindt de appel heel mooi .
        "finds": (5, seq(p.subject(), w("vindt", "VERB"), p.the_item(), p.judged(), stop)),
        # Haar zus zegt dat de appel mooi is .
        "says_judgement": (3, seq(p.subject(), p.reports, w("dat", "SCONJ"), p.the_item(), p.judged(), is_, stop)),
        # Het is een mooie appel .
        "verdict": (2, seq(w("het", "PRON"), is_, p.an_evaluated_item(), stop)),
        # Wat een mooie appel !
        "exclaims": (2, seq(w("wat", "PRON"), p.an_evaluated_item(), w("!", "PUNCT"))),
        # De appel die zij snijdt , is heel mooi .
        "relative_subject": (
            5,
            p.each_group(
                lambda k: p.either_article(
                    lambda article: seq(
                        w(article, "DET"), p.noun(k, article), p.relative_pronoun(article), p.subject(),
                        p.verb(k, "present"), comma, is_, p.judged(), stop,
                    )
                )
            ),
        ),
        # Zij snijdt een appel die heel mooi is .
        "relative_object": (
            6,
            p.each_group(
                lambda k: seq(
                    p.subject(),
                    p.verb(k, "present"),
                    p.either_article(
                        lambda article: seq(p.noun_phrase(k, article), p.relative_pronoun(article), p.judged(), is_)
                    ),
                    stop,
                )
            ),
        ),
        # Het kind dat een appel snijdt , is blij .
        "relative_person": (
            3,
            p.each_group(
                lambda k: seq(
                    p.either_article(
                        lambda article: seq(w(article, "DET"), p.person_noun(article), p.relative_pronoun(article))
                    ),
                    something(k), p.verb(k, "present"), comma, is_, p.mood, stop,
                )
            ),
        ),
        # De gasten die een appel snijden , zijn blij .
        "relative_people": (
            2,
            p.each_group(
                lambda k: seq(
                    w("de", "DET"), p.people, p.relative_pronoun("de"), something(k), p.verb(k, "infinitive"),
                    comma, w("zijn", "AUX"), p.mood, stop,
                )
            ),
        ),
        # De gasten zijn heel blij .
        "people_are": (2, seq(w("de", "DET"), p.people, w("zijn", "AUX"), _maybe(p.degree, p.mood), stop)),
        # Er ligt een appel in de keuken .
        "there_is": (
            4,
            p.each_group(
                lambda k: seq(
                    w("er", "ADV"),
                    p.posture(k),
                    p.either_article(
                        lambda article: seq(
                            een, _maybe(p.adjective(k, inflected=article == "de"), p.noun(k, article))
                        )
                    ),
                    p.in_place(),
                    stop,
                ),
                p.with_posture(),
            ),
        ),
        # Haar zus is vandaag blij .
        "is_in_mood": (3, seq(p.subject(), is_, _maybe(p.now, p.mood), stop)),
        # Haar zus helpt haar in de keuken .
        "helps": (
            4,
            seq(
                choice((0.6, p.kin()), (0.4, p.person())),
                choice((0.6, w("helpt", "VERB")), (0.4, w("ziet", "VERB"))),
                p.object_pronoun, _maybe(p.now, p.in_place()), stop,
            ),
        ),
        # In Gent regent het vandaag .
        "weather": (2, seq(w("in", "ADP"), p.city, p.weather, w("het", "PRON"), p.now, stop)),
        # Zij snijdt geen appel .
        "does_no": (
            3,
            p.each_group(
                lambda k: seq(
                    p.subject(), p.verb(k, "present"), w("geen", "DET"),
                    p.either_article(
                        lambda article: _maybe(p.adjective(k, inflected=article == "de"), p.noun(k, article))
                    ),
                    stop,
                )
            ),
        ),
        # Zij snijdt de appel niet .
        "does_not": (2.5, seq(p.subject(), p.item_verb("present"), p.the_item(), w("niet", "ADV"), stop)),
        # Zij snijdt iets .
        "does_something": (
            2,
            p.each_group(
                lambda k: seq(p.subject(), p.verb(k, "present"), w("iets", "PRON"), _maybe(p.in_place(), stop))
            ),
        ),
        # Iemand snijdt een appel .
        "someone_does": (
            2,
            p.each_group(
                lambda k: seq(w("iemand", "PRON"), p.verb(k, "present"), something(k), _maybe(p.in_place(), stop))
            ),
        ),
        # Zij werkt al drie jaar bij Bakkerij Visser .
        "works_since": (
            3,
            seq(
                p.subject(), w("werkt", "VERB"), w("al", "ADV"), p.number, w("jaar", "NOUN"), w("bij", "ADP"),
                p.organisation, stop,
            ),
        ),
        # Om drie uur gaat zij naar de keuken .
        "goes_at": (
            3,
            seq(
                w("om", "ADP"), p.number, w("uur", "NOUN"), w("gaat", "VERB"), p.subject(), w("naar", "ADP"),
                p.place(), stop,
            ),
        ),
        # Zij spreekt goed Frans .
        "speaks": (1.5, seq(p.subject(), w("spreekt", "VERB"), w("goed", "ADJ"), p.language, stop)),
    }  # fmt: skip


def sentences(patterns: Mapping[str, tuple[float, Node]], register: str = "story") -> Choice:
    """One choice among all patterns, weighted as `register` has it."""
    factors = REGISTERS[register]
    return choice(*((weight * factors.get(name, 1.0), pattern) for name, (weight, pattern) in patterns.items()))


def _maybe(before: Node, then: Node) -> Choice:
    return choice((0.5, seq(before, then)), (0.5, then))
