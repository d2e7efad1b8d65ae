"""The table of codes: it knows every code that the package can give, and docs/inspect.md tells the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from medseg.core.case import Finding
from medseg.data.codes import CODES

ROOT = Path(__file__).resolve().parents[2]
# Where the code stands among the arguments of what makes a finding.
PLACES = {"Finding": 0, "FormatError": 2, "Problem": 1, "_error": 0, "_info": 0, "_warning": 0, "leave_out": 0}


def _given() -> Iterator[str]:
    for path in (ROOT / "medseg").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(node, "func", None), "id", getattr(getattr(node, "func", None), "attr", ""))
            if not isinstance(node, ast.Call) or name not in PLACES:
                continue
            place = PLACES[name]
            wanted = [*node.args[place : place + 1], *(word.value for word in node.keywords if word.arg == "code")]
            yield from (a.value for a in wanted if isinstance(a, ast.Constant) and isinstance(a.value, str))


def test_every_code_that_the_package_gives_is_explained():
    given = set(_given())
    assert len(given) > 50 and given <= set(CODES), given - set(CODES)


def test_every_code_of_the_findings_docstring_is_explained():
    text = " ".join((Finding.__doc__ or "").split())
    listed = re.search(r"may rely on: (.*?)\.", text)
    assert listed is not None and set(re.split(r",\s*", listed[1])) <= set(CODES)


def test_the_page_holds_the_same_table():
    page = (ROOT / "docs" / "inspect.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (.+) \| (.+) \|$", page, flags=re.MULTILINE)
    assert rows == [(code, advice.meaning, advice.remedy) for code, advice in CODES.items()]
    groups = list(dict.fromkeys(advice.group for advice in CODES.values()))
    assert re.findall(r"^### (.+)$", page, flags=re.MULTILINE) == groups
