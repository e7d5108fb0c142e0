"""Party manifestos: text taken from PDFs, many of them scans of print from before 1995.

Such text has no blank lines. Words are broken over lines, page numbers and running heads stand in mid-sentence,
and a scan has lines of noise where the page had a picture. Lines are cleaned first, then joined to paragraphs.
A document is about a thousand words.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from robbertje_lib.experiment.errors import UserError

DOCUMENT_WORDS = 1000
RUNNING_HEAD = 5  # a line this often in one file, page numbers apart, is a head or foot
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ufffd\ufeff\u200b-\u200f\ue000-\uf8ff]")
PAGE_NUMBER = re.compile(r"\W*(?:(?:pagina|blz\.?|p\.)\s*)?\d{1,4}\W*", re.IGNORECASE)
LEADERS = re.compile(r"[.·_…]\s?[.·_…]\s?[.·_…]\s?[.·_…]|\S {2,}\d{1,3}$")
BULLET = re.compile(r"^(?:[•●▪■◦*►♦·✓§>»]+|[-–—~o](?=\s))\s*")
NUMBERING = re.compile(r"^\(?(?:\d{1,3}(?:\.\d{1,3})*[.)]?|[a-zA-Z][.)]|[IVX]{1,5}\.)\s+(?=\S)")
TERMINAL = re.compile(r"[.!?:;][\"'”’)\]]*$")
# "verzorgings- en verpleegtehuizen": the hyphen stands for the rest of the word, not for a line break.
SHARED_TAIL = (
    r"(?!(?:en|of|als|dan|tot|naar|noch|alsook|alsmede|respectievelijk|resp|c\.q|cq|maar|i\.p\.v|in plaats)\b)"
)
BROKEN_WORD = re.compile(rf"(?<=[a-zà-ÿ])(?:-|\u00ad)\s+{SHARED_TAIL}(?=[a-zà-ÿ])")
PREFIX_BREAK = re.compile(r"\b([Bb]e|[Gg]e|[Oo]nt|[Vv]er)-([a-z]{3,})")  # a break that lost its line end: "be-hoort"
SPACED_BREAK = re.compile(r"\b([A-Za-zà-ÿ]+) - ?([a-zà-ÿ]+)")  # "leerlin - gen", or a dash between two words
WORD = re.compile(r"[^\W\d_]+")
ITEM_LETTER = re.compile(
    r"(?<=[.;:!?])\s+[a-z][.)](?=\s|$)"
)  # "... is toegestaan. b. Er komt ...": list items run together
LEADING_CAPITALS = re.compile(r"^(?:[A-Z][A-Z&/-]{2,}\W+)+(?=[A-Z][a-z])")  # a heading on the line of its text
GLUED = re.compile(r"([a-zà-ÿ]{2}[.!?])(?=[A-Z][a-z])")  # "beleid.Nieuwe": two columns or a page foot run together


def read_manifesto(path: Path, dropped: Counter[str]) -> Iterator[list[str]]:
    """Yield documents of about a thousand words as lists of paragraphs; count the lines left out, by reason.

    Raises `UserError` if the file is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start}); delete it") from None
    vocabulary = set(WORD.findall(text))
    document: list[str] = []
    words = 0
    for paragraph in _paragraphs(_content_lines(text, dropped)):
        document.append(_mended(paragraph, vocabulary))
        words += paragraph.count(" ") + 1
        if words >= DOCUMENT_WORDS:
            yield document
            document, words = [], 0
    if document:
        yield document


def _content_lines(text: str, dropped: Counter[str]) -> list[str]:
    """The lines that hold running text, white space tidied."""
    lines = [" ".join(line.split(" ")).strip() for line in CONTROL.sub(" ", text).split("\n")]
    heads = Counter(_without_digits(line) for line in lines)
    kept = []
    for line in lines:
        if not line:
            continue
        if PAGE_NUMBER.fullmatch(line):
            reason = "page number"
        elif LEADERS.search(line):
            reason = "table of contents"
        elif heads[_without_digits(line)] >= RUNNING_HEAD and len(line) >= 12 and not line[0].islower():
            reason = "running head"
        elif len(line) >= 8 and line.isupper():
            reason = "heading in capitals"
        elif _is_noise(line):
            reason = "scanning noise"
        else:
            kept.append(line)
            continue
        dropped[f"manifestos: {reason} (lines)"] += 1
    return kept


def _without_digits(line: str) -> str:
    return line.strip("0123456789 |-–—") if len(line) >= 12 else ""


def _is_noise(line: str) -> bool:
    """Lines of which less than two thirds is letters, or whose words are mostly single letters."""
    dense = line.replace(" ", "")
    letters = sum(map(str.isalpha, dense))
    words = line.split()
    return letters < 0.66 * len(dense) or (len(words) > 3 and sum(len(w) == 1 for w in words) > 0.4 * len(words))


def _paragraphs(lines: list[str]) -> Iterator[str]:
    """Join lines; a bullet, a numbered heading or a short line that ends nothing starts a new paragraph."""
    paragraph: list[str] = []
    for i, line in enumerate(lines):
        stripped = BULLET.sub("", line)
        bullet = stripped != line
        numbered = NUMBERING.sub("", stripped)
        if (paragraph and not stripped[:1].islower()) or bullet:
            before = paragraph[-1] if paragraph else ""
            # Only the neighbours tell how wide a line is here: one page has two columns, the next has one.
            width = max(map(len, lines[max(i - 5, 0) : i + 5]))
            if bullet or TERMINAL.search(before) or len(before) < 0.7 * width or numbered != stripped:
                if paragraph:
                    yield " ".join(paragraph)
                paragraph = []
        text = stripped if paragraph else numbered
        if text:
            paragraph.append(text)
    if paragraph:
        yield " ".join(paragraph)


def _mended(paragraph: str, vocabulary: set[str]) -> str:
    paragraph = BROKEN_WORD.sub("", " ".join(paragraph.split())).replace("\u00ad", "")
    paragraph = ITEM_LETTER.sub("", GLUED.sub(r"\1 ", LEADING_CAPITALS.sub("", paragraph)))

    def whole(match: re.Match[str]) -> str:
        # Certain only if the file has the whole word elsewhere.
        return match[1] + match[2] if match[1] + match[2] in vocabulary else match[0]

    return SPACED_BREAK.sub(whole, PREFIX_BREAK.sub(whole, paragraph))
