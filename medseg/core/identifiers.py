"""What names a patient, kept out of everything that is written, and what only looks like a name.

File and folder names, and the sentences about them, may repeat what a DICOM header says of the patient.
Each such word is replaced by a pseudonym: the same for one patient everywhere, and in every run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from medseg.core.case import Source

_SHORTEST_NAME, _SHORTEST = 3, 4  # characters of what is looked for inside longer texts
# What tools write in place of an identifier: many patients share these words, so they name none.
_NOBODY = frozenset(
    {"anon", "anonym", "anonymous", "anonymized", "anonymised", "deidentified", "unknown", "none", "null", "nobody"}
    | {"patient", "patientid", "id", "name", "noname", "nopatientid", "test", "phantom", "removed", "na"}
)
_FILLERS = ("0", "x")  # as often as one likes
_EDGE = r"[^\W_]"  # a letter or digit
_GAP = r"[\W_]+"


@dataclass(frozen=True, slots=True)
class Identifiers:
    """Words that must not be repeated; `none()` lets everything through.

    whole: what is replaced where it makes up a whole folder or file name; inside: a pattern for what
    is replaced anywhere in a text, between other signs than letters and digits.
    """

    whole: frozenset[str] = frozenset()
    inside: re.Pattern[str] | None = None

    @classmethod
    def of(cls, values: Iterable[str]) -> Identifiers:
        """From header values: names (family^given), ids, birth dates (YYYYMMDD). Placeholders are no identifiers."""
        whole: set[str] = set()
        patterns: set[str] = set()
        for value in values:
            parts = [part for part in re.split(_GAP, value) if part]
            if not names_somebody(value):
                continue
            whole.add(value.casefold())
            named = "^" in value
            if sum(map(len, parts)) >= _SHORTEST:
                patterns.add(_GAP.join(map(re.escape, parts)))
            if named:
                telling = [part for part in parts if names_somebody(part)]
                whole |= {part.casefold() for part in telling}
                patterns |= {re.escape(part) for part in telling if len(part) >= _SHORTEST_NAME}
            if re.fullmatch(r"\d{8}", value):
                patterns.add(f"{value[:4]}-{value[4:6]}-{value[6:]}")
        if not whole:
            return cls()
        longest_first = sorted(patterns, key=len, reverse=True)
        inside = (
            re.compile(f"(?<!{_EDGE})(?:{'|'.join(longest_first)})(?!{_EDGE})", re.IGNORECASE) if patterns else None
        )
        return cls(frozenset(whole), inside)

    @classmethod
    def among(cls, sources: Iterable[Source]) -> Identifiers:
        """What the headers of these scans say of their patients."""
        return cls.of({word for source in sources for word in source.identifiers})

    def mask(self, text: str) -> str:
        """`text` (a sentence, or a path with / or \\) with every identifier replaced by its pseudonym."""
        if not self.whole:
            return text
        parts = re.split(r"([/\\])", text)
        masked = "".join(pseudonym(part) if part.casefold() in self.whole else part for part in parts)
        return self.inside.sub(lambda match: pseudonym(match[0]), masked) if self.inside else masked


def plain(identifier: str) -> str:
    """An identifier without what people write in several ways: small letters and digits only."""
    return "".join(character for character in identifier.casefold() if character.isalnum())


def names_somebody(identifier: str) -> bool:
    """Whether it is an identifier, not nothing and no placeholder, such as ANONYMOUS, Test^Patient or 000."""
    words = [plain(word) for word in re.split(_GAP, identifier)]
    return not _is_placeholder("".join(words)) and not all(map(_is_placeholder, words))


def _is_placeholder(word: str) -> bool:
    return word in _NOBODY or any(word == filler * len(word) for filler in _FILLERS)


def pseudonym(identifier: str) -> str:
    """`patient-` and 8 hex digits of a hash: stable, and no way back for who does not know the identifier."""
    words = re.sub(_GAP, " ", identifier).strip().casefold()
    return f"patient-{hashlib.sha256(words.encode()).hexdigest()[:8]}"
