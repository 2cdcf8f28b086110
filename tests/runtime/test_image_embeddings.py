"""Pictures embedded: the graph against the original, and runs over files."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from msgspec import structs
from PIL import Image

from synthc.compiler import plan, types
from synthc.compiler.types import Field
from synthc.runtime.embedding.export import Graph, graph_for
from synthc.runtime.embedding.media import MediaEmbedder, Medium, Unusable, medium
from synthc.runtime.embedding.media_files import MediaGraph, media_graph_for, read_media_model
from synthc.runtime.embedding.model_files import read_text_model
from synthc.runtime.embedding.pipeline import TextEmbedder, open_embedder
from synthc.runtime.errors import RunError
from synthc.runtime.listed import Listed
from synthc.runtime.model_cache import read_json
from tests.runtime.helpers import column, compiled, lines, made, rows
from tests.runtime.plans import SPAN, of, read, table
from tests.runtime.tiny_media import CLIP_WIDTH, TEXT, picture, saved, seen_by, unit
from tests.runtime.tiny_text import exported_here

LEAST_COSINE = 0.99999

PICTURES = [
    picture(seed, *size) for seed, size in enumerate([(45, 60), (60, 45), (32, 32), (99, 40)])
]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models are saved."""
    return tmp_path_factory.mktemp("models")


def file_of(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def as_media(pictures: list[np.ndarray]) -> list[Medium]:
    return [Medium(str(at), f"picture {at}", file_of(p)) for at, p in enumerate(pictures)]


def vectors(embedder: MediaEmbedder, media: list[Medium]) -> np.ndarray:
    """The vectors of media that all have one: (media, dimensions)."""
    found = [vector for vector in embedder.embed(media) if not isinstance(vector, Unusable)]
    assert len(found) == len(media)
    return np.stack(found)


def exported(
    folder: Path,
    target: Path,
    *,
    pooling: str | None = None,
    normalize: bool | None = None,
    **more: Any,
) -> MediaGraph:
    """The graph of a model, made in this process: torch is there already."""
    from synthc.runtime.embedding.media_graph import export_media

    target.mkdir()
    model = read_media_model(folder, "image", pooling=pooling, normalize=normalize)
    export_media(model, target, **more)
    return MediaGraph.of(read_json(target / "card.json"), target)


def embedder(graph: MediaGraph, **more: Any) -> MediaEmbedder:
    return MediaEmbedder(
        graph.path,
        graph.front_end,
        digest=graph.digest,
        dimensions=more.pop("dimensions", graph.dimensions),
        unit_length=graph.normalize,
        threads=1,
        **more,
    )


def agrees(graph: MediaGraph, theirs: np.ndarray, least: float = LEAST_COSINE) -> None:
    """Whether the graph gives these vectors of PICTURES, each alone and all in one batch."""
    for budget in (1.0, len(PICTURES)):
        ours = vectors(embedder(graph, budget=budget), as_media(PICTURES))
        assert ours.shape == theirs.shape
        assert float((unit(ours) * unit(theirs)).sum(axis=1).min()) >= least


# The graph against the original

Taken = Callable[[Any], Any]


def patches(given: Any, before: int = 0) -> Any:
    """The vectors of the patches: (patches, dimensions)."""
    return given.last_hidden_state[0, before:]


ORIGINALS: Mapping[str, tuple[str, str | None, str, Taken]] = {
    "vit": ("vit", None, "ViTModel", lambda given: given.pooler_output[0]),
    "vit, mean": ("vit", "mean", "ViTModel", lambda given: patches(given, 1).mean(0)),
    "vit, cls": ("vit", "cls", "ViTModel", lambda given: given.last_hidden_state[0, 0]),
    "vit, max": ("vit", "max", "ViTModel", lambda given: patches(given, 1).amax(0)),
    "deit, mean": ("deit", "mean", "DeiTModel", lambda given: patches(given, 2).mean(0)),
    "dinov2": ("dinov2", None, "Dinov2Model", lambda given: given.pooler_output[0]),
    "dinov2, mean": ("dinov2", "mean", "Dinov2Model", lambda given: patches(given, 1).mean(0)),
    "registers, mean": (
        "dinov2_with_registers",
        "mean",
        "Dinov2WithRegistersModel",
        lambda given: patches(given, 1 + 4).mean(0),
    ),
    "siglip": ("siglip", None, "SiglipVisionModel", lambda given: given.pooler_output[0]),
    "siglip, mean": ("siglip", "mean", "SiglipVisionModel", lambda given: patches(given).mean(0)),
    "convnext": ("convnext", None, "ConvNextModel", lambda given: given.pooler_output[0]),
    "convnext, mean": (
        "convnext",
        "mean",
        "ConvNextModel",
        lambda given: given.last_hidden_state[0].mean((1, 2)),
    ),
    "swin, mean": ("swin", "mean", "SwinModel", lambda given: patches(given).mean(0)),
    "clip, mean": ("clip", "mean", "CLIPVisionModel", lambda given: patches(given, 1).mean(0)),
}


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_graph_is_the_original(models: Path, tmp_path: Path, name: str) -> None:
    import transformers

    kind, pooling, model, taken = ORIGINALS[name]
    folder = saved(models, kind)
    opened = getattr(transformers, model).from_pretrained
    theirs = np.stack([taken(seen_by(folder, opened, pixels)).numpy() for pixels in PICTURES])
    graph = exported(folder, tmp_path / "graph", pooling=pooling, normalize=False)
    agrees(graph, theirs)
    assert np.allclose(vectors(embedder(graph), as_media(PICTURES)), theirs, atol=2e-4)
    assert graph.card["parity"]["least_cosine"] >= LEAST_COSINE
    assert graph.card["parity"]["pictures"] == 8


def in_one_space(folder: Path) -> np.ndarray:
    """CLIP's own vectors of PICTURES: (pictures, dimensions)."""
    from transformers import CLIPModel

    def image_features(folder: Path) -> Any:
        model = CLIPModel.from_pretrained(folder).eval()

        class Features:
            def eval(self) -> Any:
                return model.get_image_features

        return Features()

    return np.stack([seen_by(folder, image_features, p)[0].numpy() for p in PICTURES])


@pytest.mark.parametrize(
    "older",
    [{}, {"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}],  # as OpenAI's own say
)
def test_clips_pictures_and_texts_are_in_one_space(
    models: Path, tmp_path: Path, older: dict[str, int]
) -> None:
    import torch
    from transformers import AutoTokenizer, CLIPModel

    name = "clip-older" if older else "clip"
    folder = saved(models, "clip", name, text_config={**TEXT, **older})
    graph = exported(folder, tmp_path / "graph")
    assert (graph.card["pooling"], graph.dimensions) == ("image_embeds", 24)
    agrees(graph, in_one_space(folder))
    assert np.allclose(
        vectors(embedder(graph), as_media(PICTURES)), unit(in_one_space(folder)), atol=1e-4
    )

    texts = ["a cat", "", "A photo of the rocket, from below.", "größer " * 30]
    tokens = AutoTokenizer.from_pretrained(folder)(
        texts, padding=True, truncation=True, max_length=20, return_tensors="pt"
    )
    with torch.inference_mode():
        theirs = CLIPModel.from_pretrained(folder).eval().get_text_features(**tokens).numpy()
    from synthc.runtime.embedding.torch_graph import export

    (tmp_path / "texts").mkdir()
    export(read_text_model(folder, pooling=None, normalize=None), tmp_path / "texts")
    text_graph = Graph.of(read_json(tmp_path / "texts" / "card.json"), tmp_path / "texts")
    assert (text_graph.pooling, text_graph.dimensions) == ("text_embeds", 24)
    assert (text_graph.max_tokens, text_graph.position_limit) == (20, 20)
    for batch_tokens in (1, 100):
        opened = TextEmbedder(text_graph, batch_tokens=batch_tokens, threads=1)
        assert np.allclose(opened.embed(texts), unit(theirs), atol=1e-4)
        assert opened.truncated == 2


def test_a_folder_of_sentence_transformers_says_whether_clip_has_unit_length(
    models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved(models, "clip"), folder / "0_CLIPModel")
    kinds = {"CLIPModel": "0_CLIPModel"}
    for normalize, more in ((False, {}), (True, {"Normalize": "1_Normalize"})):
        modules = [
            {"path": path, "type": f"sentence_transformers.models.{kind}"}
            for kind, path in {**kinds, **more}.items()
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        assert (
            read_media_model(folder, "image", pooling=None, normalize=None).normalize == normalize
        )
        assert read_text_model(folder, pooling=None, normalize=None).normalize == normalize
    graph = exported(folder, tmp_path / "graph", normalize=False)
    theirs = in_one_space(folder / "0_CLIPModel")
    assert np.allclose(vectors(embedder(graph), as_media(PICTURES)), theirs, atol=2e-4)


def test_a_clip_whose_half_for_pictures_stands_alone(models: Path, tmp_path: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    whole = saved(models, "clip")
    config = json.loads((whole / "config.json").read_text())["vision_config"]
    half = CLIPVisionModelWithProjection.from_pretrained(
        whole, config=CLIPVisionConfig(**{**config, "projection_dim": 24})
    )
    half.save_pretrained(tmp_path / "half")
    shutil.copy(whole / "preprocessor_config.json", tmp_path / "half")
    agrees(exported(tmp_path / "half", tmp_path / "graph"), in_one_space(whole))


def test_half_precision(models: Path, tmp_path: Path) -> None:
    import transformers

    folder = saved(models, "vit", "wide", hidden_size=128, intermediate_size=256)
    opened = transformers.ViTModel.from_pretrained
    theirs = [seen_by(folder, opened, p).pooler_output[0].numpy() for p in PICTURES]
    graph = exported(folder, tmp_path / "graph", precision="fp16")
    agrees(graph, np.stack(theirs), 0.999)
    assert graph.card["parity"]["needed"] == 0.999
    assert 0.999 <= graph.card["parity"]["least_cosine"] < 1
    assert graph.path.stat().st_size < 0.7 * (folder / "model.safetensors").stat().st_size


def without(folder: Path, target: Path, *parts: str) -> Path:
    """A copy of a model's folder without the weights of these parts."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, target)
    weights = load_file(target / "model.safetensors")
    kept = {name: weights[name] for name in weights if not name.startswith(parts)}
    assert len(kept) < len(weights)
    save_file(kept, target / "model.safetensors", {"format": "pt"})
    return target


def test_a_pooler_that_was_never_trained_is_not_used(models: Path, tmp_path: Path) -> None:
    import transformers

    folder = without(saved(models, "vit"), tmp_path / "model", "pooler")
    graph = exported(folder, tmp_path / "graph")
    assert graph.card["pooling"] == "mean"
    opened = transformers.ViTModel.from_pretrained
    theirs = [patches(seen_by(folder, opened, p), 1).mean(0).numpy() for p in PICTURES]
    agrees(graph, np.stack(theirs))


def refused(folder: Path, target: Path, **asked: Any) -> RunError:
    with pytest.raises(RunError) as caught:
        exported(folder, target, **asked)
    return caught.value


def test_weights_that_are_missing_are_no_random_ones(models: Path, tmp_path: Path) -> None:
    folder = without(saved(models, "vit"), tmp_path / "model", "encoder.layer.1")
    message = refused(folder, tmp_path / "graph").message
    assert message.startswith("its weights lack 16 of what the model needs: encoder.layer.1.")


@pytest.mark.parametrize("kind", ["siglip", "convnext", "swin"])
def test_models_without_a_class_token(models: Path, tmp_path: Path, kind: str) -> None:
    error = refused(saved(models, kind), tmp_path / "graph", pooling="cls")
    assert error.message == 'it has no class token, which `pooling = "cls"` needs'


def test_a_model_whose_tokens_are_not_known(models: Path, tmp_path: Path) -> None:
    error = refused(saved(models, "vit_mae"), tmp_path / "graph", pooling="mean")
    assert error.message == ("which of its tokens are patches is not known of the type `vit_mae`")


def test_a_graph_that_differs_from_the_original_is_refused(models: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved(models, "vit"), tmp_path / "model")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "resample": 0}))
    model = read_media_model(folder, "image", pooling=None, normalize=None)
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "resample": 3}))
    from synthc.runtime.embedding.media_graph import export_media

    (tmp_path / "graph").mkdir()
    with pytest.raises(RunError, match=r"its vectors in fp32 are not the model's: over 8 pictures"):
        export_media(model, tmp_path / "graph")


# Folders that are refused


def misread(folder: Path, kind: Any = "image") -> RunError:
    with pytest.raises(RunError) as caught:
        read_media_model(folder, kind, pooling=None, normalize=None)
    return caught.value


def test_folders_that_are_no_model_of_pictures(models: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved(models, "clip"), tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    error = misread(folder)
    assert error.message == (
        f"{folder} is no image model: it has no preprocessor_config.json; it may be a text model,"
        " which takes no `input`"
    )
    assert error.hint == (
        "an embedder of pictures needs a folder with config.json, preprocessor_config.json and weights"
    )
    (folder / "tokenizer.json").unlink()
    assert misread(folder).message.endswith("it has no preprocessor_config.json")
    assert "is no model: it has no config.json" in misread(tmp_path).message
    assert "is one file, and a model is a folder" in misread(folder / "config.json").message


def test_a_model_of_another_input(models: Path) -> None:
    error = misread(saved(models, "wav2vec2"))
    assert "is a model of recordings, not of pictures" in error.message
    assert error.hint == 'write `input = "audio"`'
    error = misread(saved(models, "vit"), "audio")
    assert "is a model of pictures, not of recordings" in error.message
    with pytest.raises(RunError, match=r"is not a text model: it has no tokenizer\.json") as caught:
        read_text_model(saved(models, "vit"), pooling=None, normalize=None)
    assert 'for a model of pictures write `input = "image"`' in (caught.value.hint or "")


def test_texts_of_a_clip_have_no_other_pooling(models: Path) -> None:
    with pytest.raises(RunError, match="it has no other pooling") as caught:
        read_text_model(saved(models, "clip"), pooling="mean", normalize=None)
    assert caught.value.hint == "leave `pooling` out"


def test_texts_of_a_siglip_are_refused(models: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved(models, "siglip"), tmp_path / "model")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(RunError, match="of the type `siglip`, whose texts are not supported"):
        read_text_model(folder, pooling=None, normalize=None)


def test_eight_bits_are_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match="takes pictures, and `int8` is for models of text"
    ) as caught:
        media_graph_for(saved(models, "vit"), "image", precision="int8", cache=tmp_path)
    assert caught.value.hint == 'leave `precision` out, or write `"fp16"`'


# The pipeline


@pytest.fixture(scope="session")
def vit_graph(models: Path, tmp_path_factory: pytest.TempPathFactory) -> MediaGraph:
    return exported(saved(models, "vit"), tmp_path_factory.mktemp("vit") / "graph")


def test_the_order_is_kept_and_what_fails_fails_alone(vit_graph: MediaGraph) -> None:
    many = as_media([picture(seed, 20 + seed, 90 - seed) for seed in range(23)])
    many[4] = Medium("4", "picture 4", b"no picture")
    many[22] = Medium("22", "picture 22", b"")
    found = embedder(vit_graph, budget=3.0).embed(many)
    assert [at for at, one in enumerate(found) if isinstance(one, Unusable)] == [4, 22]
    alone = embedder(vit_graph)
    for at in (0, 3, 5, 13, 21):
        vector = found[at]
        assert not isinstance(vector, Unusable)
        assert np.allclose(vectors(alone, [many[at]]), vector, atol=1e-5)
    assert alone.embed([]) == []


def test_the_first_numbers_of_a_vector(vit_graph: MediaGraph) -> None:
    whole = vectors(embedder(vit_graph), as_media(PICTURES))
    first = vectors(embedder(vit_graph, dimensions=8), as_media(PICTURES))
    assert np.allclose(first, unit(whole[:, :8]), atol=1e-6)


def test_a_file_that_changes_meanwhile(vit_graph: MediaGraph, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(file_of(PICTURES[0]))
    (tmp_path / "b.png").write_bytes(file_of(PICTURES[0]))
    files = Listed(frozenset(["a.png", "b.png"]), tmp_path)
    media = [medium(f"{name}.png", "image", "image", files) for name in "ab"]
    assert media[0] == media[1]
    (tmp_path / "a.png").write_bytes(file_of(PICTURES[1]))
    (tmp_path / "b.png").unlink()
    changed, gone = embedder(vit_graph).embed(media)
    assert str(changed) == "was changed while the run went on: run it again"
    assert str(gone) == "cannot be read: no such file or directory"


# Runs


@pytest.fixture(scope="session")
def exports(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the graphs of both halves of `clip`."""
    cache = tmp_path_factory.mktemp("exports") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        exported_here(patch)
        media_graph_for(saved(models, "clip"), "image", cache=cache)
        graph_for(saved(models, "clip"), cache=cache)
    return cache


@pytest.fixture
def eyes(models: Path, exports: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The embedder of a spec."""
    monkeypatch.setenv("SYNTHC_CACHE", str(exports))
    model = saved(models, "clip")
    return f'embedder e {{ model = "{model}"  dimensions = {CLIP_WIDTH}  input = "image" }}\n'


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the media that the graph was run on since the list was last cleared."""
    seen: list[str] = []
    embed = MediaEmbedder.embed

    def counted(self: MediaEmbedder, media: list[Medium]) -> list[np.ndarray | Unusable]:
        seen.extend(item.name for item in media)
        return embed(self, media)

    monkeypatch.setattr(MediaEmbedder, "embed", counted)
    return seen


FILES = 'table t = files("*.png") |> embed(image)'


def test_files_are_embedded_each_once_ever(
    models: Path, eyes: str, tmp_path: Path, embedded: list[str]
) -> None:
    for name, seed in (("a", 0), ("b", 1), ("c", 0)):
        (tmp_path / f"{name}.png").write_bytes(file_of(PICTURES[seed]))
    report = made(eyes + FILES, tmp_path, "")
    assert sorted(embedded) == ["`a.png`", "`b.png`"]
    assert report.notes[0].startswith("e: 2 pictures embedded on ")
    theirs = unit(in_one_space(saved(models, "clip")))
    found = column(tmp_path, "SELECT embedding FROM t ORDER BY path")
    assert np.allclose(found, theirs[[0, 1, 0]], atol=1e-4)
    embedded.clear()

    (tmp_path / "d.png").write_bytes(file_of(PICTURES[2]))
    (tmp_path / "b.png").rename(tmp_path / "moved.png")
    report = made(eyes + FILES, tmp_path, "")
    assert embedded == ["`d.png`"]
    assert report.notes[0].startswith("e: 1 picture embedded on ")
    assert report.notes[0].endswith(" were there already")
    assert column(tmp_path, "SELECT path FROM t ORDER BY path") == [
        *("a.png", "c.png", "d.png", "moved.png")
    ]


def test_a_file_that_is_no_picture_fails_its_row(eyes: str, tmp_path: Path) -> None:
    whole = file_of(picture(3, 200, 200), "JPEG")
    files = {
        "empty": b"",
        "good": file_of(PICTURES[0]),
        "half": whole[: len(whole) // 2],
        "too": b"the same words",
        "words": b"the same words",
    }
    for name, content in files.items():
        (tmp_path / f"{name}.png").write_bytes(content)
    report = made(eyes + FILES, tmp_path, "")
    assert (report.tables["t"].kept, report.tables["t"].failed) == (1, 4)
    found = rows(tmp_path, "SELECT row_key, reason, detail FROM synth.failures ORDER BY row_key")
    assert [
        (key, reason, detail.split(";")[0].split(" (")[0]) for key, reason, detail in found
    ] == [
        ("empty.png", "image", "`empty.png` is empty"),
        ("half.png", "image", "`half.png` cannot be read: image file is truncated"),
        ("too.png", "image", "`too.png` is no picture that can be read"),
        ("words.png", "image", "`words.png` is no picture that can be read"),
    ]

    # Once they are mended, only they are embedded.
    for name in ("empty", "half", "too", "words"):
        (tmp_path / f"{name}.png").write_bytes(file_of(PICTURES[1]))
    report = made(eyes + FILES, tmp_path, "")
    assert report.tables["t"].kept == 5
    assert report.notes[0].startswith("e: 1 picture embedded on ")


@pytest.mark.parametrize("value", ["secret.png", "../secret.png", "/etc/passwd", "", "x" * 5_000])
def test_no_file_is_read_that_no_source_lists(eyes: str, tmp_path: Path, value: str) -> None:
    """Whatever a plan says: one that was edited by hand takes a text for a picture."""
    base = tmp_path / "spec"
    (base / "in").mkdir(parents=True)
    for path in (tmp_path / "secret.png", base / "secret.png", base / "in" / "a.png"):
        path.write_bytes(file_of(PICTURES[0]))
    lines(base, "topics.jsonl", [{"n": 1, "topic": value}, {"n": 2, "topic": "in/a.png"}])
    embed = plan.Embed(
        span=SPAN,
        what="embed(topic)",
        embedder="e",
        read="topic",
        write="v",
        dimensions=CLIP_WIDTH,
        input="image",
    )
    source = plan.Files(SPAN, "in/*.png", (Field("image", types.Image()),))
    spec = of(
        table(source, name="f", outputs={"image": types.Image()}),
        table(read(), embed, outputs={"v": types.Vector(CLIP_WIDTH)}),
    )
    spec = structs.replace(spec, embedders=compiled(eyes, base).embedders)
    report = made(spec, base, "")
    assert (report.tables["t"].kept, report.tables["t"].failed) == (1, 1)
    ((reason, detail),) = rows(base, "SELECT reason, detail FROM synth.failures")
    assert reason == "image"
    assert "is listed by no `files(…)` of the spec, and no other file is read" in detail


def test_bytes_and_data_urls(eyes: str, tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE p (n INTEGER, photo BLOB)")
        for n, content in enumerate([file_of(PICTURES[0]), b"", file_of(PICTURES[1])]):
            connection.execute("INSERT INTO p VALUES (?, ?)", [n, content])
        connection.execute(f"COPY p TO '{tmp_path / 'p.parquet'}'")
    spec = """
    table t = read("p.parquet", key = n) |> embed(photo)
    table again = sql "SELECT n, photo FROM t" |> embed(photo)
    """
    report = made(eyes + spec, tmp_path, "")
    assert (report.tables["t"].kept, report.tables["again"].kept) == (2, 2)
    assert report.notes[0].startswith("e: 2 pictures embedded on ")
    assert column(tmp_path, "SELECT detail FROM synth.failures") == [
        "the picture in `photo` is empty"
    ]


def test_texts_and_pictures_of_a_clip_in_one_run(
    models: Path, exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHC_CACHE", str(exports))
    folder = saved(models, "clip")
    (tmp_path / "a.png").write_bytes(file_of(PICTURES[0]))
    spec = f"""
    embedder seen {{ model = "{folder}"  dimensions = 24  input = "image" }}
    embedder said {{ model = "{folder}"  dimensions = 24 }}
    table t = files("*.png") |> embed(image) using seen as picture |> embed(path) using said as words
    """
    made(spec, tmp_path, "")
    ((seen, said),) = rows(tmp_path, "SELECT picture, words FROM t")
    assert np.allclose(seen, unit(in_one_space(folder))[0], atol=1e-4)
    words = open_embedder(str(folder), base=Path(), dimensions=24, cache=exports).embed(["a.png"])
    assert np.allclose(said, words[0], atol=1e-6)


def test_wrong_dimensions_name_the_true_ones(
    models: Path, exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHC_CACHE", str(exports))
    (tmp_path / "a.png").write_bytes(file_of(PICTURES[0]))
    spec = f'embedder e {{ model = "{saved(models, "clip")}"  dimensions = 16  input = "image" }}'
    with pytest.raises(RunError, match="has 24 dimensions, not 16") as caught:
        made(f"{spec} {FILES}", tmp_path, "")
    assert caught.value.hint == (
        "write `dimensions = 24`, or `truncate = true` to keep the first of them"
    )
    made(f"{spec.replace('16', '16  truncate = true')} {FILES}", tmp_path, "")
    assert len(column(tmp_path, "SELECT embedding FROM t")[0]) == 16


def test_a_run_that_has_its_graph_imports_neither_torch_nor_more_than_it_needs(
    models: Path, exports: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(file_of(PICTURES[0]))
    program = f"""
import sys
from pathlib import Path
from synthc.runtime.embedding.media_files import open_media_embedder
from synthc.runtime.embedding.media import medium
from synthc.runtime.listed import Listed
import synthc.runtime.run
print("PIL" in sys.modules, "soundfile" in sys.modules, "soxr" in sys.modules)
model = {str(saved(models, "clip"))!r}
found = open_media_embedder(model, kind="image", base=Path(), dimensions={CLIP_WIDTH})
item = medium("a.png", "image", "image", Listed(frozenset(["a.png"]), Path({str(tmp_path)!r})))
print(found.embed([item])[0].shape)
unwanted = ("torch", "transformers", "optimum", "onnx", "soundfile", "soxr")
print([name for name in unwanted if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYNTHC_CACHE": str(exports)},
    )
    assert done.stdout.splitlines() == ["False False False", f"({CLIP_WIDTH},)", "[]"], done.stderr
