"""The language server as an editor meets it: a client speaks to the real process over its pipes."""

from collections.abc import Callable
from pathlib import Path

from synthc.compiler.format.format import format_text
from tests.lsp.client import Client

Connect = Callable[..., Client]

BACKENDS = """\
backend small { url = "http://localhost:1"  model = "m" }
embedder mini { model = "hf:org/name"  dimensions = 3 }
"""
BACKEND = BACKENDS.split("\n", maxsplit=1)[0] + "\n"
TASK = """\
task answer(tone: text = "dry") {
  "Answers a question."
  in  question: text
  let topic: text = ask "The topic of {{ question }}, {{ tone }}."
  out answer: text = ask "Say something of {{ topic }}."
}
"""
TABLE = """\
table asked = sql "SELECT 'Why?' AS question, 3 AS level"
  |> where("level > 2")
  |> answer(tone = "kind") using small as a
  |> embed(question) using mini
"""
SPEC = BACKENDS + TASK + TABLE


def test_a_mistake_is_shown_and_goes(tmp_path: Path, connect: Connect):
    (tmp_path / "a.synth").write_text(SPEC)
    client = connect()
    assert client.open("a.synth") == []

    wrong = SPEC.replace("{{ topic }}", "{{ topc }}")
    (problem,) = client.type("a.synth", wrong)
    assert problem["code"] == "S0402"
    assert problem["severity"] == 1
    line = wrong.split("\n")[problem["range"]["start"]["line"]]
    start, end = (problem["range"][side]["character"] for side in ("start", "end"))
    assert line[start:end] == "topc"
    assert problem["codeDescription"]["href"].endswith("errors.md#s0402")
    assert [r["message"] for r in problem["relatedInformation"]] == ["help: did you mean `topic`?"]

    context = {"diagnostics": [problem]}
    document = {"uri": client.uri("a.synth")}
    asked = {"textDocument": document, "range": problem["range"], "context": context}
    (fix,) = client.request("textDocument/codeAction", asked)
    assert fix["edit"]["changes"][document["uri"]][0]["newText"] == "topic"

    assert client.type("a.synth", SPEC) == []
    unused = SPEC + "param nobody: int = 3\n"
    client.send("a.synth", unused)
    assert [p["severity"] for p in client.comes_to("a.synth", ["S0901"])] == [2]
    assert client.shut("a.synth") == []
    assert client.close() == 0


def test_completion_knows_the_place(tmp_path: Path, connect: Connect):
    (tmp_path / "parts.synth").write_text(BACKENDS + TASK)
    client = connect()
    client.open("a.synth", SPEC)

    def offered(added: str) -> list[str]:
        client.send("a.synth", f"{SPEC}{added}")
        return client.labels("a.synth", f"{SPEC[-9:]}{added}")

    assert "table" in offered("ta")
    assert {"read", "asked"} <= {*offered("table t = ")}
    assert {"where", "embed", "answer"} <= {*offered("table t = asked |> ")}
    assert offered("table t = asked |> answer using ") == ["small"]
    assert offered("table t = asked |> embed(question) using ") == ["mini"]
    assert offered("table t = asked |> answer(") == ["question", "tone"]
    assert {"question", "level", "a"} <= {*offered('table t = asked |> where("')}
    assert offered('table t = asked |> where("a.') == ["answer", "model_name"]
    assert {"asked", "level"} <= {*offered('table t = sql "SELECT * FROM asked WHERE ')}
    assert {"std/evol", "parts"} <= {*offered('use "')}
    assert {"ask", "sql"} <= {*offered("task t { out x: text = ")}
    assert "reasks" in offered("backend b { ")
    assert "pooling" in offered("embedder e { ")
    assert {"question", "tone", "output_format"} <= {
        *offered('task t(tone: text) { in question: text out x: text = ask "{{ ')
    }
    assert offered('task t { in question: text out x: text = ask "') == []
    assert offered("# ") == []
    # The rest of a spec is there while one declaration is broken in its middle.
    broken = SPEC.replace("|> where(", "|> whe  \n  |> (((")
    client.send("a.synth", broken)
    assert "answer" in client.labels("a.synth", "|> whe")


def test_a_task_is_offered_as_a_snippet(tmp_path: Path, connect: Connect):
    client = connect()
    text = SPEC + 'use "std/evol"\ntable t = asked |> evol.inst'
    client.open("a.synth", text)
    items = client.request("textDocument/completion", client.at("a.synth", "evol.inst"))["items"]
    (item,) = (item for item in items if item["label"] == "evol.instruct")
    line = text.split("\n")[-1]
    place = item["textEdit"]["range"]
    assert line[place["start"]["character"] : place["end"]["character"]] == "evol.inst"
    assert item["textEdit"]["newText"] == "evol.instruct(instruction = ${1:instruction})"
    assert "in  instruction: text" in item["documentation"]["value"]


def test_hover_and_definition(tmp_path: Path, connect: Connect):
    (tmp_path / "lib.synth").write_text(TASK.replace("task answer", "task other"))
    client = connect()
    text = (
        'use "lib"\nuse "std/evol"\n'
        + SPEC
        + 'table more = asked |> select("question, a.answer AS said") |> lib.other\n'
        + "  |> evol.instruct(instruction = said)\n"
    )
    client.open("a.synth", text)
    assert "level: int" in client.hover("a.synth", 'where("lev')
    assert "from `SQL`" in client.hover("a.synth", 'where("lev')
    assert "task answer(tone: text" in client.hover("a.synth", "|> answ")
    assert "Answers a question." in client.hover("a.synth", "|> answ")
    assert 'tone: text = "dry"' in client.hover("a.synth", ", {{ to")
    assert "said: text" in client.hover("a.synth", "= sai")
    assert "from `the step select`" in client.hover("a.synth", "= sai")
    assert 'model = "m"' in client.hover("a.synth", "using sma")
    assert client.hover("a.synth", "3 AS le") == ""

    def target(mark: str) -> tuple[str, str]:
        found = client.request("textDocument/definition", client.at("a.synth", mark))
        name = found["uri"].rsplit("/", 1)[-1]
        path = Path(found["uri"].removeprefix("file://"))
        lines = (text if name == "a.synth" else path.read_text()).split("\n")
        start = found["range"]["start"]
        end = found["range"]["end"]["character"] if name == "a.synth" else None
        return name, lines[start["line"]][start["character"] : end]

    assert target("|> answ") == ("a.synth", "answer")
    assert target("using sma") == ("a.synth", "small")
    assert target("more = ask") == ("a.synth", "asked")
    assert target("{{ top") == ("a.synth", "topic")
    assert target("(to") == ("a.synth", "tone") if text.count("(to") == 1 else True
    assert target("|> lib.oth")[0] == "lib.synth"
    assert target("|> lib.oth")[1].startswith("other(tone")
    assert target("|> evol.instr")[0] == "evol.synth"
    assert target('use "std/ev')[0] == "evol.synth"
    assert target("= sai") == ("a.synth", "select")

    references = client.request(
        "textDocument/references",
        {**client.at("a.synth", "table ask"), "context": {"includeDeclaration": True}},
    )
    assert len(references) == 2


def test_rename(tmp_path: Path, connect: Connect):
    lib = BACKENDS + TASK
    user = (
        'use "lib" as l\n'
        + BACKENDS
        + ('table t = sql "SELECT \'Why?\' AS question" |> l.answer(tone = "kind") using small\n')
    )
    (tmp_path / "lib.synth").write_text(lib)
    (tmp_path / "user.synth").write_text(user)
    client = connect()
    client.open("lib.synth")

    def rename(mark: str, name: str) -> dict[str, list[str]]:
        place = client.at("lib.synth", mark)
        found = client.request("textDocument/rename", {**place, "newName": name})
        texts = {"lib.synth": lib, "user.synth": user}
        return {
            uri.rsplit("/", 1)[-1]: [
                texts[uri.rsplit("/", 1)[-1]].split("\n")[e["range"]["start"]["line"]][
                    e["range"]["start"]["character"] : e["range"]["end"]["character"]
                ]
                for e in edits
            ]
            for uri, edits in found["changes"].items()
        }

    def refused(mark: str, name: str) -> str:
        place = client.at("lib.synth", mark)
        answer = client.answer("textDocument/rename", {**place, "newName": name})
        return answer["error"]["message"]

    assert rename("task answ", "reply") == {"lib.synth": ["answer"], "user.synth": ["answer"]}
    assert rename("answer(to", "mood") == {"lib.synth": ["tone", "tone"], "user.synth": ["tone"]}
    assert rename("let top", "subject") == {"lib.synth": ["topic", "topic"]}
    assert rename("{{ top", "subject") == {"lib.synth": ["topic", "topic"]}
    assert "is a column that tables" in refused("out answ", "said")
    assert "no reserved word" in refused("task answ", "let")
    assert "is no name" in refused("task answ", "two words")
    assert "no name here" in refused("out", "x")
    assert "is declared already" in refused("let top", "question")


def test_rename_of_a_table(tmp_path: Path, connect: Connect):
    client = connect()
    text = SPEC + 'table b = sql "SELECT asked.level FROM asked JOIN asked AS o ON true"\n'
    client.open("a.synth", text + 'export asked to "asked.jsonl"\n')
    place = client.at("a.synth", "table ask")
    found = client.request("textDocument/rename", {**place, "newName": "put"})
    assert len(found["changes"][client.uri("a.synth")]) == 5


def test_rename_of_the_last_word_of_a_long_string(tmp_path: Path, connect: Connect):
    client = connect()
    text = 'param most: int = 3\ntable t = sql """\n  SELECT 1 AS x\n  LIMIT $most\n"""\n'
    assert client.open("a.synth", text) == []
    place = {**client.at("a.synth", "param mo"), "newName": "count"}
    edits = client.request("textDocument/rename", place)["changes"][client.uri("a.synth")]
    assert edits[-1]["range"] == {
        "start": {"line": 3, "character": 9},
        "end": {"line": 3, "character": 13},
    }


def test_formatting(tmp_path: Path, connect: Connect):
    client = connect()
    client.open("a.synth", SPEC)
    options = {"tabSize": 2, "insertSpaces": True}
    document = {"textDocument": {"uri": client.uri("a.synth")}, "options": options}
    (edit,) = client.request("textDocument/formatting", document)
    assert edit["newText"] == format_text(SPEC)
    client.type("a.synth", edit["newText"])
    assert client.request("textDocument/formatting", document) == []
    client.type("a.synth", "table (")
    assert client.request("textDocument/formatting", document) is None


def test_texts_that_are_not_saved(tmp_path: Path, connect: Connect):
    (tmp_path / "lib.synth").write_text(BACKENDS + TASK)
    client = connect()
    user = (
        'use "lib"\n'
        + BACKEND
        + "table t = sql \"SELECT 'Why?' AS question\" |> lib.reply using small\n"
    )
    (problem,) = client.open("user.synth", user)
    assert problem["code"] == "S0201"
    renamed = (BACKENDS + TASK).replace("task answer", "task reply")
    client.open("lib.synth", renamed)
    client.comes_to("user.synth", [])
    # What is wrong with a used file stands where it is used, and says where it is.
    client.send("lib.synth", renamed.replace("{{ topic }}", "{{ topc }}"))
    (problem,) = client.comes_to("user.synth", ["S0402"])
    assert problem["range"]["start"] == {"line": 0, "character": 4}
    assert "lib.synth:7" in problem["message"]
    assert problem["relatedInformation"][0]["location"]["uri"] == client.uri("lib.synth")


def test_a_data_file_that_changes(tmp_path: Path, connect: Connect):
    data = tmp_path / "data.jsonl"
    data.write_text('{"a": 1}\n')
    client = connect()
    (problem,) = client.open("a.synth", 'table t = read("data.jsonl") |> where("b > 1")\n')
    assert problem["code"] == "S0203"
    data.write_text('{"b": 2}\n')
    changes = [{"uri": client.uri("data.jsonl"), "type": 2}]
    client.notify("workspace/didChangeWatchedFiles", {"changes": changes})
    client.comes_to("a.synth", [])


def test_files_that_use_each_other(tmp_path: Path, connect: Connect):
    (tmp_path / "a.synth").write_text('use "b"\n' + SPEC)
    (tmp_path / "b.synth").write_text('use "a"\n')
    client = connect()
    found = client.open("a.synth")
    assert "S0207" in [problem["code"] for problem in found]


def test_columns_are_counted_as_the_client_does(tmp_path: Path, connect: Connect):
    text = (
        BACKENDS + "table t = sql \"SELECT '🍋é' AS a, 1 AS b\" |> where(\"'🍋' = a AND nope\")\n"
    )
    line = text.split("\n")[2]
    for encoding, size in (("utf-8", 1), ("utf-16", 2), ("utf-32", 4)):
        client = connect({"general": {"positionEncodings": [encoding]}})
        assert client.capabilities["positionEncoding"] == encoding
        (problem,) = client.open("a.synth", text)
        codec = encoding if size == 1 else f"{encoding}-le"
        start = problem["range"]["start"]["character"]
        assert line.encode(codec)[start * size :].decode(codec).startswith("nope")
        place = {"line": 2, "character": len(line[: line.index("= a")].encode(codec)) // size + 2}
        asked = {"textDocument": {"uri": client.uri("a.synth")}, "position": place}
        assert "a: text" in client.request("textDocument/hover", asked)["contents"]["value"]


def test_an_old_client_has_plain_text(tmp_path: Path, connect: Connect):
    client = connect({})
    assert client.capabilities["positionEncoding"] == "utf-16"
    (problem,) = client.open("a.synth", SPEC.replace("{{ topic }}", "{{ topc }}"))
    assert problem["message"].endswith("help: did you mean `topic`?")
    assert "relatedInformation" not in problem
    client.send("a.synth", SPEC + "table u = asked |> ans")
    items = client.request("textDocument/completion", client.at("a.synth", "asked |> ans"))["items"]
    (item,) = (item for item in items if item["label"] == "answer")
    assert item["textEdit"]["newText"] == "answer(question = question)"
    assert item.get("insertTextFormat") is None


def test_no_request_ends_the_server(tmp_path: Path, connect: Connect):
    client = connect()
    uri = client.uri("a.synth")
    client.open("a.synth", SPEC)
    for character in (0, 7, 10**6):
        for line in (0, 5, 10**6):
            place = {
                "textDocument": {"uri": uri},
                "position": {"line": line, "character": character},
            }
            for method in ("hover", "completion", "definition"):
                client.request(f"textDocument/{method}", place)
    client.notify("textDocument/hover", {"position": "nowhere"})
    assert "error" in client.answer("textDocument/nothing", {})
    gone = {
        "textDocument": {"uri": client.uri("gone.synth")},
        "position": {"line": 0, "character": 0},
    }
    client.answer("textDocument/hover", gone)
    for text in (
        "",
        "\ufeff",
        '"""',
        "task",
        "{{{{",
        "table t = \x00",
        'use ""',
        "\r\n\r\n",
        "🍋" * 40,
    ):
        client.type("a.synth", text)
        for method in ("hover", "completion", "definition"):
            at_end = {"line": 0, "character": 2}
            client.request(
                f"textDocument/{method}", {"textDocument": {"uri": uri}, "position": at_end}
            )
    assert client.type("a.synth", SPEC) == []
    assert client.close() == 0


def test_two_clients_and_a_large_file(tmp_path: Path, connect: Connect):
    one, two = connect(), connect()
    assert one.open("a.synth", SPEC) == two.open("a.synth", SPEC) == []
    assert [p["code"] for p in one.type("a.synth", SPEC + "task (")] == ["S0101"]
    assert two.type("a.synth", SPEC + "\n") == []
    # A megabyte that is no spec: it is read, and the server answers.
    large = SPEC + "# " + "x" * 100 + "\n"
    large += ("# " + "🍋" * 100 + "\n") * 2_500
    assert one.type("a.synth", large) == []
    one.send("a.synth", large + "table t = asked |> ")
    assert "answer" in one.labels("a.synth", "= asked |> ")
    assert one.close() == two.close() == 0


def test_symbols(tmp_path: Path, connect: Connect):
    client = connect()
    client.open("a.synth", SPEC)
    document = {"textDocument": {"uri": client.uri("a.synth")}}
    found = client.request("textDocument/documentSymbol", document)
    assert [(s["detail"], s["name"]) for s in found] == [
        ("backend", "small"),
        ("embedder", "mini"),
        ("task", "answer"),
        ("table", "asked"),
    ]


def test_a_long_spec_is_looked_at_where_it_changed_first(tmp_path: Path, connect: Connect):
    names = range(80)
    many = BACKENDS + TASK + "".join(TABLE.replace("asked", f"asked{n}") for n in names)
    client = connect()
    assert client.open("a.synth", many) == []
    wrong = many.replace("asked7 =", "asked7 =\n", 1).replace("level > 2", "levl > 2", 1)
    (problem,) = client.type("a.synth", wrong)
    assert "levl" in problem["message"]
    # A warning comes as soon, but not that a task is unused whose users were not looked at.
    unread = many.replace("in  question: text", "in  question: text\n  in  level: int", 1)
    (problem,) = client.type("a.synth", unread)
    assert (problem["code"], problem["severity"]) == ("S0901", 2)
    assert "the input `level` is never used" in problem["message"]
    # What the edit does to others is shown once the whole was looked at.
    client.send("a.synth", many.replace("task answer", "task reply"))
    client.comes_to("a.synth", ["S0201"] * len(names))
