"""Numbers embedded by graphs of the user's own: an autoencoder of real digits, and graphs that do not fit."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthc.compiler.compile import compile_text
from synthc.runtime.embedding.numbers import NumberEmbedder
from synthc.runtime.errors import RunError
from tests.runtime.helpers import column, compiled, lines, made, rows

DIGITS = np.loadtxt(Path(__file__).parent / "data" / "digits.csv", delimiter=",")
PIXELS = DIGITS[:, :64]
SPEC = """
embedder codes {{ model = "{model}"  input = "vector"  dimensions = {dimensions} {more} }}
table t = read("x.jsonl", key = n) |> embed(pixels) as code using codes
"""


def spec(model: str = "coder.onnx", dimensions: int = 16, more: str = "") -> str:
    return SPEC.format(model=model, dimensions=dimensions, more=more)


@dataclass(frozen=True)
class Coder:
    """An autoencoder that was trained on the digits: its first half in torch, and what that gives."""

    module: Any
    codes: np.ndarray


@pytest.fixture(scope="module")
def coder() -> Coder:
    import torch

    torch.manual_seed(1)
    half = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16))
    back = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 64))
    whole = torch.nn.Sequential(half, back)
    pixels = torch.from_numpy(PIXELS).float()
    steps = torch.optim.Adam(whole.parameters(), lr=0.01)
    losses = []
    for _ in range(120):
        loss = torch.nn.functional.mse_loss(whole(pixels), pixels)
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 5
    with torch.inference_mode():
        return Coder(half.eval(), half(pixels).numpy())


def export(
    module: Any,
    path: Path,
    shape: Sequence[int] = (2, 64),
    *,
    type_: str = "float32",
    free: bool = True,
    inputs: Sequence[str] = ("pixels",),
    outputs: Sequence[str] = ("code",),
) -> Path:
    """A module as an ONNX file: `free` leaves the number of rows open."""
    import torch

    example = torch.zeros(*shape, dtype=getattr(torch, type_))
    open_axes = {name: {0: "rows"} for name in (*inputs, *outputs)} if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that another exporter is the default now
        torch.onnx.export(
            module,
            (example,) * len(inputs),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=open_axes,
            dynamo=False,
        )
    return path


def digits(base: Path, count: int = len(PIXELS), change: dict[int, Any] | None = None) -> None:
    lines(
        base,
        "x.jsonl",
        (
            {"n": n, "pixels": (change or {}).get(n, PIXELS[n].astype(int).tolist())}
            for n in range(count)
        ),
    )


def codes(base: Path) -> np.ndarray:
    return np.array(column(base, "SELECT code FROM t ORDER BY n"))


@pytest.fixture
def there(coder: Coder, tmp_path: Path) -> Path:
    """A folder with the coder's graph and the digits."""
    export(coder.module, tmp_path / "coder.onnx")
    digits(tmp_path)
    return tmp_path


def test_the_codes_are_those_of_the_original(coder: Coder, there: Path) -> None:
    report = made(spec(more='input_name = "pixels"  output_name = "code"'), there, "")
    assert np.abs(codes(there) - coder.codes).max() < 1e-5
    assert column(there, "SELECT DISTINCT typeof(code) FROM t") == ["FLOAT[16]"]
    assert report.notes[0].startswith("codes: 300 lists embedded on ")


def test_a_list_is_embedded_once_also_across_runs(
    coder: Coder, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = NumberEmbedder.embed
    seen: list[bytes] = []

    def counted(self: NumberEmbedder, items: Sequence[bytes]) -> Any:
        seen.extend(items)
        return embed(self, items)

    monkeypatch.setattr(NumberEmbedder, "embed", counted)
    digits(there, 50)
    made(spec(), there, "")
    digits(there, 60)
    report = made(spec(), there, "")
    assert len(seen) == 60
    assert report.notes[0].endswith(", 50 were there already")
    assert column(there, "SELECT count(*) FROM synth.vectors") == [60]
    assert np.abs(codes(there) - coder.codes[:60]).max() < 1e-5
    # Another graph of the same name is another embedder.
    export(coder.module[:2], there / "coder.onnx")
    made(spec(dimensions=32), there, "")
    assert len(seen) == 120


def test_unit_length_and_shorter_vectors(coder: Coder, there: Path) -> None:
    made(spec(more="normalize = true"), there, "")
    unit = coder.codes / np.linalg.norm(coder.codes, axis=1, keepdims=True)
    assert np.abs(codes(there) - unit).max() < 1e-5
    made(spec(dimensions=4, more="truncate = true"), there, "")
    assert np.abs(codes(there) - coder.codes[:, :4]).max() < 1e-5


@pytest.mark.parametrize(
    ("shape", "settings", "near"),
    [
        ((2, 1, 8, 8), {}, 1e-5),
        ((1, 1, 8, 8), {"free": False}, 1e-5),
        ((7, 64), {"free": False}, 1e-5),  # the last batch is not full
        ((2, 64), {"type_": "float64"}, 1e-5),
        ((2, 64), {"type_": "float16"}, 0.2),
    ],
    ids=["images", "one-at-a-time", "seven-at-a-time", "double", "half"],
)
def test_inputs_of_other_shapes_and_types(
    coder: Coder, there: Path, shape: tuple[int, ...], settings: dict[str, Any], near: float
) -> None:
    import copy

    import torch

    half = copy.deepcopy(coder.module).to(getattr(torch, settings.get("type_", "float32")))
    module = torch.nn.Sequential(torch.nn.Flatten(), half)
    export(module, there / "coder.onnx", shape, **settings)
    made(spec(), there, "")
    assert np.abs(codes(there) - coder.codes).max() < near


def test_an_output_may_have_sizes_of_one(coder: Coder, there: Path) -> None:
    import torch

    module = torch.nn.Sequential(coder.module, torch.nn.Unflatten(1, (16, 1, 1)))
    export(module, there / "coder.onnx")
    made(spec(), there, "")
    assert np.abs(codes(there) - coder.codes).max() < 1e-5


def test_a_folder_with_one_graph_and_a_pinned_file(coder: Coder, tmp_path: Path) -> None:
    import hashlib

    (tmp_path / "model").mkdir()
    file = export(coder.module, tmp_path / "model" / "coder.onnx")
    digits(tmp_path, 5)
    made(spec("model"), tmp_path, "")
    assert np.abs(codes(tmp_path) - coder.codes[:5]).max() < 1e-5
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    made(spec(f"model/coder.onnx@sha256:{sha256}"), tmp_path, "", database="y.duckdb")
    with pytest.raises(RunError, match="is not the one that was pinned"):
        made(spec(f"model/coder.onnx@sha256:{'0' * 64}"), tmp_path, "", database="z.duckdb")


def test_weights_in_a_file_of_their_own(coder: Coder, there: Path) -> None:
    import onnx

    path = there / "coder.onnx"
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location="coder.onnx.data",
        size_threshold=0,
    )
    made(spec(), there, "")
    assert np.abs(codes(there) - coder.codes).max() < 1e-5
    # Other weights are another embedder, though the file with the graph is the same.
    weights = there / "coder.onnx.data"
    weights.write_bytes(bytes(len(weights.read_bytes())))
    report = made(spec() + "\n", there, "", database="y.duckdb")
    assert report.notes[0].startswith("codes: 300 lists")
    weights.unlink()
    with pytest.raises(RunError) as raised:
        made(spec(), there, "", database="z.duckdb")
    assert "beside it" in str(raised.value.hint)


def test_a_vector_that_an_embedder_made_is_embedded_again(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(2)
    smaller = torch.nn.Linear(3, 2)
    export(smaller, tmp_path / "coder.onnx", (2, 3))
    (tmp_path / "w.txt").write_text("a 1 2 2\nb 0 3 4\n")
    text = """
    embedder w { model = "w.txt"  dimensions = 3  normalize = false }
    embedder codes { model = "coder.onnx"  input = "vector"  dimensions = 2 }
    table t = sql "SELECT unnest(['a', 'b']) AS x, x AS n" key x
      |> embed(x) as v using w |> embed(v) as code using codes
    """
    made(text, tmp_path, "")
    with torch.inference_mode():
        theirs = smaller(torch.tensor([[1.0, 2, 2], [0, 3, 4]])).numpy()
    assert np.abs(codes(tmp_path) - theirs).max() < 1e-5
    found = compile_text(text.replace("dimensions = 3", "dimensions = 4"), "x.synth", tmp_path)
    (problem,) = found.problems
    assert problem.message() == "what is embedded must be `vector[3]`, and this is `vector[4]`"
    assert problem.help() == "the graph of `codes` takes 3 numbers as `pixels`"


# Rows that have no vector


def test_a_row_that_does_not_fit_fails_alone(coder: Coder, there: Path) -> None:
    good = PIXELS[0].tolist()
    digits(
        there,
        8,
        {1: good[:63], 2: [*good, 1.0], 3: [], 4: [None, *good[1:]], 5: [*good[1:], 1e300]},
    )
    report = made(spec(), there, "")
    failed = dict(
        rows(there, "SELECT row_key, reason || ': ' || detail FROM synth.failures ORDER BY row_key")
    )
    detail = failed.pop("5")
    assert failed == {
        "1": "numbers: there are 63 numbers, and `pixels` takes 64",
        "2": "numbers: there are 65 numbers, and `pixels` takes 64",
        "3": "numbers: there are 0 numbers, and `pixels` takes 64",
        "4": "numbers: number 1 of 64 is null",
    }
    assert detail.startswith("numbers: the graph gives ") and "as number 1 of the vector" in detail
    assert (report.tables["t"].kept, report.tables["t"].failed) == (3, 5)
    assert np.abs(codes(there) - coder.codes[[0, 6, 7]]).max() < 1e-5


def test_numbers_that_are_none(there: Path) -> None:
    text = """
    embedder codes { model = "coder.onnx"  input = "vector"  dimensions = 16 }
    table v = sql \"\"\"
      SELECT * FROM (VALUES (1, 'nan'::DOUBLE), (2, 'inf'), (3, '-inf'), (4, 1.0)) AS v (n, x)
    \"\"\"
    table t = sql "SELECT n, list_transform(range(64), lambda i: if(i = n, x, 1.0)) AS pixels FROM v" key n
      |> embed(pixels) as code using codes
    """
    made(text, there, "")
    assert rows(there, "SELECT row_key, detail FROM synth.failures ORDER BY row_key") == [
        ("1", "number 2 of 64 is nan"),
        ("2", "number 3 of 64 is inf"),
        ("3", "number 4 of 64 is -inf"),
    ]
    assert column(there, "SELECT n FROM t") == [4]


def test_a_vector_that_is_not_finite_fails_its_row_and_is_not_kept(tmp_path: Path) -> None:
    import torch

    class Roots(torch.nn.Module):
        def forward(self, numbers: Any) -> Any:
            return torch.sqrt(numbers)

    export(Roots(), tmp_path / "coder.onnx", (2, 2))
    lines(tmp_path, "x.jsonl", [{"n": 1, "pixels": [1, 4]}, {"n": 2, "pixels": [1, -4]}])
    made(spec(dimensions=2), tmp_path, "")
    assert codes(tmp_path).tolist() == [[1, 2]]
    assert rows(tmp_path, "SELECT row_key, detail FROM synth.failures") == [
        ("2", "the graph gives nan as number 2 of the vector")
    ]
    assert column(tmp_path, "SELECT count(*) FROM synth.vectors") == [1]


# Graphs that do not fit, told by the compiler and by a run in the same words


def tensor(name: str, type_: str, shape: Sequence[int | str | None] | None) -> Any:
    import onnx

    return onnx.helper.make_tensor_value_info(name, getattr(onnx.TensorProto, type_), shape)


def graph(path: Path, inputs: Sequence[Any], outputs: Sequence[Any], **nodes: str) -> None:
    """A graph whose outputs are made of its first input by one operation each."""
    import onnx

    made_of = [
        onnx.helper.make_node(nodes.get(out.name, "Identity"), [inputs[0].name], [out.name])
        for out in outputs
    ]
    whole = onnx.helper.make_graph(made_of, "g", list(inputs), list(outputs))
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(whole, opset_imports=opset, ir_version=9), path)


ROWS = ["rows", 4]
MISFITS = {
    "another-input": (
        {"inputs": [("x", "FLOAT", ROWS)], "outputs": [("y", "FLOAT", ROWS)]},
        'input_name = "pixels"',
        "has no input `pixels`",
        "its input is `x`",
    ),
    "another-output": (
        {"inputs": [("x", "FLOAT", ROWS)], "outputs": [("y", "FLOAT", ROWS), ("z", "FLOAT", ROWS)]},
        'output_name = "code"',
        "has no output `code`",
        "its outputs are `y`, `z`",
    ),
    "several-outputs": (
        {"inputs": [("x", "FLOAT", ROWS)], "outputs": [("y", "FLOAT", ROWS), ("z", "FLOAT", ROWS)]},
        "",
        "has 2 outputs, and `output_name` does not say which one is meant",
        "its outputs are `y`, `z`",
    ),
    "several-inputs": (
        {"inputs": [("x", "FLOAT", ROWS), ("m", "FLOAT", ROWS)], "outputs": [("y", "FLOAT", ROWS)]},
        "",
        "has 2 inputs, and `input_name` does not say which one is meant",
        "its inputs are `x`, `m`",
    ),
    "needs-another": (
        {"inputs": [("x", "FLOAT", ROWS), ("m", "FLOAT", ROWS)], "outputs": [("y", "FLOAT", ROWS)]},
        'input_name = "x"',
        "needs `m` too, and only one input can be given",
        "export it with one input",
    ),
    "whole-numbers": (
        {"inputs": [("x", "INT64", ROWS)], "outputs": [("y", "INT64", ROWS)]},
        "",
        "takes int64 as `x`, and numbers are given as float",
        "export it with an input of the type float",
    ),
    "output-of-whole-numbers": (
        {"inputs": [("x", "FLOAT", ROWS)], "outputs": [("y", "INT64", [2])], "y": "Shape"},
        "",
        "gives int64 as `y`, and a vector has floats",
        None,
    ),
    "no-rows": (
        {"inputs": [("x", "FLOAT", [4])], "outputs": [("y", "FLOAT", [4])]},
        "",
        "gives `y` in the shape (4), which is no vector for each row",
        None,
    ),
    "a-matrix": (
        {"inputs": [("x", "FLOAT", ["r", 2, 2])], "outputs": [("y", "FLOAT", ["r", 2, 2])]},
        "",
        "gives `y` in the shape (any, 2, 2), which is no vector for each row",
        None,
    ),
    "sizes-that-are-open": (
        {
            "inputs": [("x", "FLOAT", ["r", "h", 2])],
            "outputs": [("y", "FLOAT", ["r", 4])],
            "y": "Flatten",
        },
        "",
        "takes `x` in the shape (any, any, 2), which a list of numbers does not fill",
        "export it with sizes that are fixed, but for the first",
    ),
    "other-dimensions": (
        {"inputs": [("x", "FLOAT", ROWS)], "outputs": [("y", "FLOAT", ROWS)]},
        "",
        "has 4 dimensions, not 3",
        "write `dimensions = 4`, or `truncate = true` to keep the first of them",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_graph_that_does_not_fit(tmp_path: Path, case: str) -> None:
    described, more, reason, advice = MISFITS[case]
    inputs, outputs = (
        [tensor(*one) for one in described.pop(part)] if part in described else []
        for part in ("inputs", "outputs")
    )
    lines(tmp_path, "x.jsonl", [{"n": 1, "pixels": [1, 2, 3, 4]}])
    text = spec(dimensions=3 if case == "other-dimensions" else 4, more=more)
    plan = compiled(text, tmp_path)  # the graph is not there yet
    graph(tmp_path / "coder.onnx", inputs, outputs, **described)
    (problem,) = compile_text(text, "x.synth", tmp_path).problems
    assert (problem.code, problem.message()) == ("S0607", f"the graph `coder.onnx` {reason}")
    assert problem.help() == advice
    with pytest.raises(RunError) as raised:
        made(plan, tmp_path, "")
    assert (raised.value.message, raised.value.hint) == (problem.message(), problem.help())


def test_what_the_file_does_not_say_is_seen_when_it_runs(tmp_path: Path) -> None:
    graph(tmp_path / "coder.onnx", [tensor("x", "FLOAT", None)], [tensor("y", "FLOAT", None)])
    lines(tmp_path, "x.jsonl", [{"n": 1, "pixels": [1, 2, 3]}])
    made(spec(dimensions=3), tmp_path, "")
    assert codes(tmp_path).tolist() == [[1, 2, 3]]
    with pytest.raises(RunError, match=r"gives `y` in the shape \(1, 3\) for 1 rows, and a vector"):
        made(spec(dimensions=2), tmp_path, "", database="y.duckdb")


@pytest.mark.parametrize("content", [b"", b"a text\n" * 40, b"GGUF\x03" + bytes(64)])
def test_a_file_that_is_no_graph(tmp_path: Path, content: bytes) -> None:
    lines(tmp_path, "x.jsonl", [{"n": 1, "pixels": [1, 2, 3]}])
    plan = compiled(spec(), tmp_path)
    (tmp_path / "coder.onnx").write_bytes(content)
    (problem,) = compile_text(spec(), "x.synth", tmp_path).problems
    why = "it is no ONNX graph" if content else "it is empty"
    assert problem.message() == f"the graph `coder.onnx` cannot be read: {why}"
    with pytest.raises(RunError) as raised:
        made(plan, tmp_path, "")
    assert raised.value.message == problem.message()


@pytest.mark.parametrize("model", ["x" * 5000, "~nobody-of-that-name/x.onnx", "nul\\u0000.onnx"])
def test_a_name_that_no_file_can_have_is_no_fault(tmp_path: Path, model: str) -> None:
    lines(tmp_path, "x.jsonl", [{"n": 1, "pixels": [1.0]}])
    assert compile_text(spec(model), "x.synth", tmp_path).problems == ()


def test_a_graph_that_is_cut_off(coder: Coder, there: Path) -> None:
    whole = (there / "coder.onnx").read_bytes()
    for size in (len(whole) // 2, len(whole) - 1):
        (there / "coder.onnx").write_bytes(whole[:size])
        (problem,) = compile_text(spec(), "x.synth", there).problems
        assert problem.message() == "the graph `coder.onnx` cannot be read: it is cut off"


def test_a_folder_with_several_graphs_or_none(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (problem,) = compile_text(
        spec("model").replace('read("x.jsonl", key = n)', 'sql "SELECT [1.0] AS pixels"'),
        "x.synth",
        tmp_path,
    ).problems
    assert problem.message() == "the graph `model` has no .onnx file"
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / "model" / name).write_bytes(b"x")
    lines(tmp_path, "x.jsonl", [{"n": 1, "pixels": [1.0]}])
    (problem,) = compile_text(spec("model"), "x.synth", tmp_path).problems
    assert problem.message() == "the graph `model` has several: `a.onnx`, `b.onnx`"


def test_a_graph_alone_embeds_no_text(there: Path) -> None:
    text = 'embedder e { model = "coder.onnx"  dimensions = 16 }\n'
    text += "table t = sql \"SELECT 'a' AS x\" |> embed(x)"
    (there / "coder.onnx").rename(there / "later.onnx")
    plan = compiled(text, there)
    (there / "later.onnx").rename(there / "coder.onnx")
    (problem,) = compile_text(text, "x.synth", there).problems
    told = "the graph `coder.onnx` is one file, and a text needs a tokenizer too"
    assert problem.message() == told
    with pytest.raises(RunError) as raised:
        made(plan, there, "")
    assert (raised.value.message, raised.value.hint) == (told, problem.help())


def test_it_runs_simulated(there: Path) -> None:
    from synthc.runtime.run import Options, Report, run
    from synthc.runtime.simulate import Simulated

    (there / "coder.onnx").unlink()
    options = Options(there / "s.duckdb", there, {}, stand_in=Simulated(42))
    run(compiled(spec(), there), options, Report(), lambda _note: None)
    lengths = column(
        there, "SELECT list_dot_product(code::FLOAT[], code::FLOAT[]) FROM t", "s.duckdb"
    )
    assert len(lengths) == 300 and all(math.isclose(one, 1, abs_tol=1e-5) for one in lengths)


def test_another_size_for_each_row_where_the_graph_takes_any(tmp_path: Path) -> None:
    import torch

    class Spread(torch.nn.Module):
        def forward(self, numbers: Any) -> Any:
            return torch.stack([numbers.amin(1), numbers.amax(1)], 1)

    import onnx

    path = export(Spread(), tmp_path / "coder.onnx", (2, 3))
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "any"
    onnx.save(model, path)
    lengths = ([3, 1], [1, 2, 3], [7], [2, 9])
    lines(tmp_path, "x.jsonl", ({"n": n, "pixels": one} for n, one in enumerate(lengths)))
    made(spec(dimensions=2), tmp_path, "")
    assert codes(tmp_path).tolist() == [[1, 3], [1, 3], [7, 7], [2, 9]]
    assert json.dumps(column(tmp_path, "SELECT count(*) FROM synth.failures")) == "[0]"
