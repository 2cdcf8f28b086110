"""The pages under docs/: what they show compiles and runs, and what they say exists."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from synthc.cli.markdown import gallery
from synthc.compiler.compile import compile_text
from synthc.compiler.diagnostics.render import as_markdown, render
from synthc.compiler.gallery import REFERENCES, Page, Shelf, namespaces, standard
from synthc.runtime.run import Options, Report, run
from synthc.runtime.simulate import Simulated
from synthc.runtime.testing import run_test
from tests.docs.blocks import Block, blocks, files, pictures

DOCS = Path(__file__).parents[2] / "docs"
UNUSED = "S0901"
"""A block that only declares something for the blocks after it is warned of."""

BLOCKS = [
    pytest.param(document, block, id=f"{document.stem}:{block.line}")
    for document in sorted(DOCS.glob("*.md"))
    for block in blocks(document)
]


@pytest.fixture(scope="module")
def shelves() -> list[Shelf]:
    return [shelf for name in namespaces() if (shelf := standard(name).shelf)]


@pytest.fixture
def pages(shelves: list[Shelf]) -> dict[str, Page]:
    return {page.name: page for shelf in shelves for page in shelf.pages}


def folder_of(document: Path, folder: Path) -> Path:
    """A folder with the files that a document shows."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = {name: text.encode() for name, text in files(document).items()}
    for name, data in {**shown, **pictures(document)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_there_are_pages() -> None:
    assert {path.name for path in DOCS.glob("*.md")} >= {"language.md", "tasks.md", "reference.md"}
    assert len(BLOCKS) > 30


@pytest.mark.parametrize(("document", "block"), BLOCKS)
def test_specs_compile(document: Path, block: Block, tmp_path: Path) -> None:
    compiled = compile_text(block.text, "docs.synth", folder_of(document, tmp_path))
    told = [render(p, compiled.sources) for p in compiled.problems if p.code != UNUSED]
    assert told == []


def simulated(text: str, folder: Path) -> Report:
    """What came of a spec that was run against made-up answers."""
    plan = compile_text(text, "docs.synth", folder).plan
    assert plan
    report = Report()
    options = Options(folder / "docs.duckdb", folder, {}, stand_in=Simulated(plan.seed))
    run(plan, options, report, lambda _text: None)
    return report


def test_the_language_page_runs_simulated(tmp_path: Path) -> None:
    document = DOCS / "language.md"
    for block in blocks(document):
        folder = folder_of(document, tmp_path / str(block.line))
        report = simulated(block.text, folder)
        for name, table in report.tables.items():
            counted = (table.kept, table.dropped, table.failed, table.not_asked)
            assert table.kept or table.dropped, (block.line, name, counted)


@pytest.mark.parametrize("page", ["from-distilabel.md", "from-data-designer.md"])
def test_the_pages_for_those_who_come_run_simulated(page: str, tmp_path: Path) -> None:
    for block in blocks(DOCS / page):
        folder = folder_of(DOCS / page, tmp_path / str(block.line))
        report = simulated(block.text, folder)
        for name, table in report.tables.items():
            assert not table.failed and (table.kept or table.dropped), (block.line, name)


def recipes() -> list[tuple[Block, str]]:
    """Each spec of the page of embeddings, and the query that follows it."""
    document = DOCS / "embeddings.md"
    text = document.read_text(encoding="utf-8")
    queries = re.findall(r"^```sql\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return list(zip(blocks(document), queries, strict=True))


def asked(folder: Path, query: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(folder / "docs.duckdb"), read_only=True) as database:
        return database.execute(query).fetchall()


def test_the_recipes_for_embeddings_run_simulated(tmp_path: Path) -> None:
    for block, query in recipes():
        folder = folder_of(DOCS / "embeddings.md", tmp_path / str(block.line))
        report = simulated(block.text, folder)
        assert not any(table.failed for table in report.tables.values()), block.line
        assert asked(folder, query) or "path" in query, (
            block.line
        )  # of one picture there is no pair


def test_the_recipes_whose_model_is_here_run_with_it(tmp_path: Path) -> None:
    there = [
        (block, query)
        for block, query in recipes()
        if not re.search(r'model = "(hf:|autoencoder)', block.text)
    ]
    assert len(there) == 5
    for block, query in there:
        folder = folder_of(DOCS / "embeddings.md", tmp_path / str(block.line))
        plan = compile_text(block.text, "docs.synth", folder).plan
        assert plan
        report = Report()
        run(plan, Options(folder / "docs.duckdb", folder, {}), report, lambda _text: None)
        assert not any(table.failed for table in report.tables.values()), block.line
        assert asked(folder, query), block.line


def test_the_language_pages_tests_pass(tmp_path: Path) -> None:
    document = DOCS / "language.md"
    folder = folder_of(document, tmp_path)
    outcomes = [
        run_test(test, folder)
        for block in blocks(document)
        for test in compile_text(block.text, "docs.synth", folder).tests
    ]
    assert len(outcomes) > 8
    assert {o.test.title: o.faults for o in outcomes if o.faults} == {}


# Pages that are made


def test_the_page_of_errors_is_the_one_that_is_made() -> None:
    there = (DOCS / "errors.md").read_text(encoding="utf-8")
    assert there == as_markdown(), "make it anew: synthc explain --markdown > docs/errors.md"


def test_the_gallery_page_is_the_one_that_is_made(shelves: list[Shelf]) -> None:
    made = gallery(shelves)
    there = (DOCS / "tasks.md").read_text(encoding="utf-8")
    assert there == made, "make it anew: synthc tasks --markdown > docs/tasks.md"


def test_every_task_of_the_gallery_runs_simulated(pages: dict[str, Page], tmp_path: Path) -> None:
    """All snippets as one spec, each table under a name of its own."""
    uses = "\n".join(sorted({page.use for page in pages.values() if page.use}))
    tables = [
        page.example.snippet.removeprefix(f"{page.use}\n\n").replace("results", f"t{number}", 1)
        for number, page in enumerate(pages.values())
    ]
    backend = 'backend small { model = "m"  url = "http://127.0.0.1:9/v1" }'
    report = simulated("\n".join([uses, backend, *tables]), tmp_path)
    assert len(report.tables) == len(pages)
    # A made-up text is hardly ever of the length that a generator wants: then its row fails, as it says.
    wanted = [n for n, p in enumerate(pages.values()) if "generator" not in p.name]
    assert [report.tables[f"t{n}"].failed for n in wanted] == [0] * len(wanted)


# Beside the reference


def sections() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Of each class of the reference: our task, and pairs of what theirs and ours is called."""
    text = (DOCS / "reference.md").read_text(encoding="utf-8")
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    for part in text.split("\n## ")[1:]:
        head, _, body = part.partition("\n")
        theirs, ours = head.removesuffix("`").split(" → `")
        rows = re.findall(r"^\| (.+?) \| (.+?) \| .*\|$", body, re.MULTILINE)
        found[theirs] = (ours, [row for row in rows if row[0] not in ("distilabel", "---")])
    return found


def test_every_class_of_the_reference_has_its_task(pages: dict[str, Page]) -> None:
    table = {ours: theirs for theirs, (ours, _) in sections().items() if ours != "embed"}
    assert table == REFERENCES
    assert {name: page.reference for name, page in pages.items()} == table


def test_all_that_is_ours_in_the_reference_exists(pages: dict[str, Page]) -> None:
    for ours, rows in sections().values():
        if ours == "embed":
            continue
        page = pages[ours]
        there = {part.name for part in (*page.inputs, *page.parameters, *page.outputs)}
        said = {name for _, cell in rows for name in re.findall(r"^`(\w+)`$", cell)}
        assert said == there, ours
        sets = {name for _, cell in rows for name in re.findall(r"`evol\.(\w+)`", cell)}
        assert not sets or ours.startswith("evol.")


def test_names_of_the_reference_stand_for_the_same(pages: dict[str, Page]) -> None:
    """A column or parameter that both call by one name stands in one row."""
    for ours, rows in sections().values():
        for theirs, cell in rows:
            name = re.search(r"`(\w+)`", theirs)
            own = re.fullmatch(r"`(\w+)`", cell)
            page = pages.get(ours)
            if name and own and page:
                there = {part.name for part in (*page.inputs, *page.parameters, *page.outputs)}
                assert name[1] == own[1] or name[1] not in there, (ours, name[1])
