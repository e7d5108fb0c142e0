"""Sentences: splitting Dutch paragraphs, and telling a sentence from what books and PDFs leave behind."""

import re

from sentencex import segment

MINIMUM_WORDS = 3
MAXIMUM_WORDS = 250
WORD = re.compile(r"[^\W\d_]+")
FUNCTION_WORDS = frozenset(
    WORD.findall(
        "de het een en van in is dat te op voor met die niet zijn er aan om ook als bij maar door naar over dan "
        "nog uit wordt worden of hij zij ze ik je we wij men zich tot kan al was had heeft hebben dit deze zo zoo wat "
        "mijn haar hem hun u moet moeten zal zou zullen wel geen meer daar hier waar toen nu gij mij ons onze der "
        "den des ne ja nee neen na onder tegen zonder tussen tusschen want omdat of toch moest kon wil willen ben bent "
        "heb mag"
    )
)
OPENING = re.compile(r"[\"'“”„‘’«»(—–-]*\s*(?:['’][a-z]\b|…|\.\.\.|[A-ZÀ-Þ0-9])")
CLOSING = re.compile(r"[.!?…][\"'“”„‘’«»)\]*]*$")
LOOSE_CLOSING = re.compile(r"[.!?…:;,—\"'“”’«»)\]]$")
ODD = re.compile(r"[~@£§<>|\\{}=^#©®¢¥¬¦°±¶\[\]*_]|https?:|www\.|\.nl\b|\.\.\.\.|[.,;:]{2}[a-z]")
RUNNING_HEAD = re.compile(
    r"(?i:program(?:ma)?(?: \w+)? (?:19|20)\d\d ?[-–—/] ?(?:19|20)?\d\d)|[Vv]erkiezingsprogram\w* [A-Z]\w+ [A-Z]"
    r"|[A-Z]{4,}[a-z]{2,}|[a-z]-\d"
    # A page number in mid-sentence, where one column ran on into the next: "is dit 11 heeft de overheid".
    r"|(?<=[a-z]{2}) \d{1,3} (?:we|wij|het|een|de|dat|die|is|zijn|heeft|hebben|wordt|worden|mogelijk|moet|kan)\b"
)
SCAN_ERROR = re.compile(
    r"[a-zà-ÿ]\d|\d(?!e\b|de\b|ste\b|er\b|ers\b|[a-z]{1,2}\b)[a-zà-ÿ]"  # letters and digits mixed: "we1", "al66n"
    r"|[a-z][;:!?][a-z]|[a-z]! [a-z]"  # a sign within a word or a sentence: "c;amen", "doe! op"
    r"|\b[Rr]n|rnrn|rnm|mrn"  # m read as rn: "rnaar"
    r"|(?<!Groen)(?<!Christen)(?<!Boer)(?<!Burger)(?<!Lib)(?<=[a-z]{2})[A-Z][a-z]{2}"  # words run together
    r"|[a-z]\.[A-Z\d]|[a-z]{3}\.[a-z]|[A-Z][a-z]+[A-Z][a-z]*[A-Z]|\d[A-Z][a-z]"
    r"|(?<= )[b-tv-z](?= )|[bcdfghjklmnpqrstvwxz]{7}"  # a word fallen apart, or none at all
)
CLITIC = re.compile(r"(?<!\w)['’](?=[tsnkm]\b)")  # 't, 's, 'n, 'k, 'm
APOSTROPHE = "\u02bc"  # an apostrophe that counts as a letter; the splitter takes the usual one for a quotation mark
LONG = 60  # words
QUOTES = str.maketrans("", "", '"“”„«»')


def split_sentences(paragraph: str) -> list[str]:
    """The sentences of one Dutch paragraph, by `sentencex`.

    A piece that starts in lower case belongs to the one before: „Kom hier!” zeide hij. A speech stays whole, as
    the splitter does not look inside quotation marks; one of over 60 words is split all the same, without its marks.
    """
    sentences: list[str] = []
    for piece in _segment(paragraph):
        if sentences and piece[:1].islower():
            sentences[-1] += " " + piece
        else:
            sentences.append(piece)
    return [part for sentence in sentences for part in _split_speech(sentence)]


def _split_speech(sentence: str) -> list[str]:
    bare = sentence.translate(QUOTES)
    if sentence.count(" ") < LONG or bare == sentence:
        return [sentence]
    return _segment(bare)


def _segment(text: str) -> list[str]:
    pieces = segment("nl", CLITIC.sub(APOSTROPHE, text))
    return [piece.strip().replace(APOSTROPHE, "'") for piece in pieces if piece.strip()]


def sentence_fault(sentence: str, scanned: bool) -> str | None:
    """Why `sentence` does not read as a Dutch sentence, or None if it does.

    `scanned` text, from PDFs, must also open and close as a sentence does and be free of scanning errors: its
    headings, list items and noise are told apart by nothing else.
    """
    words = WORD.findall(sentence)
    if len(words) < MINIMUM_WORDS:
        return f"fewer than {MINIMUM_WORDS} words"
    if len(words) > MAXIMUM_WORDS:
        return f"more than {MAXIMUM_WORDS} words"
    letters = sum(map(len, words))
    if letters < 0.7 * (len(sentence) - sentence.count(" ")):
        return "mostly figures and signs"
    if sum(map(str.isupper, sentence)) > 0.3 * letters:
        return "in capitals"
    if len(words) >= 6 and sum(word.lower() in FUNCTION_WORDS for word in words) < 0.12 * len(words):
        return "hardly any Dutch function words"
    if not scanned:
        return None if LOOSE_CLOSING.search(sentence) else "no closing punctuation"
    if len(words) < MINIMUM_WORDS + 1:
        return f"fewer than {MINIMUM_WORDS + 1} words"
    if not OPENING.match(sentence):
        return "no capital at the start"
    if not CLOSING.search(sentence):
        return "no closing punctuation"
    if ODD.search(sentence):
        return "signs that no sentence has"
    if RUNNING_HEAD.search(sentence):
        return "running head or page number within"
    if SCAN_ERROR.search(sentence) or sum(len(word) == 1 for word in words) > 0.2 * len(words):
        return "scanning errors"
    return None
