"""Tables in files and pipes are those that rich would have drawn."""

import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from keytrail import plain_table, render
from keytrail.convert import convert
from keytrail.data import packaged
from keytrail.pack import load_rules
from keytrail.schemas import get_schema
from keytrail.verdict_tables import show_verdicts
from rich import markup
from rich.console import Console

WORDS = st.text("ab.:[]\\é漢-", min_size=1, max_size=70) | st.sampled_from(["a", "exact if", "x" * 200, "漢" * 90])
CELLS = st.lists(WORDS, max_size=14).map(" ".join)
ROWS = st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), max_size=4))


def drawn(title: str, columns: list[str], rows: list[list[str]]) -> str:
    out = io.StringIO()
    made = render.table(title, columns, [[render.safe(cell) for cell in row] for row in rows])
    Console(file=out, width=plain_table.WIDTH, highlight=False, emoji=False).print(made)
    return out.getvalue()


@settings(max_examples=150, deadline=None)
@given(ROWS)
@example([["a" * 200, "b" * 200, "c"]])
def test_a_plain_table_is_laid_out_as_rich_does(rows: list[list[str]]) -> None:
    columns = ["rule", "", "keytrail", "who can break it"][: len(rows[0]) if rows else 2]
    found = "".join(f"{line}\n" for line in plain_table.lines("Why", columns, rows))
    assert found == drawn("Why", columns, rows)


@given(st.lists(st.text("\\[]a/1 :#@", max_size=8), max_size=3))
def test_what_a_log_says_is_shown_as_it_is_wherever_it_stands(texts: list[str]) -> None:
    shown = list(map(render.safe, texts))
    assert markup.render("[red]".join(shown), emoji=False).plain == "".join(texts)
    assert markup.render(f"[red]{' '.join(shown)}[/]", emoji=False).plain == " ".join(texts)


@pytest.mark.parametrize("schemas", [["keytrail"], ["ecs", "raw"]])
def test_verdicts_in_a_pipe_are_those_that_rich_would_have_drawn(
    schemas: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = load_rules([packaged("rules")]).rules
    made = [convert(rule, get_schema(name)) for rule in rules for name in schemas]
    show_verdicts(made)
    plain = capsys.readouterr().out
    monkeypatch.setenv("TTY_COMPATIBLE", "0")  # which leaves it to rich, and says that there is no terminal
    show_verdicts(made)
    assert plain == capsys.readouterr().out
    assert "Exact if, and why not" in plain
