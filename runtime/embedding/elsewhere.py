"""Text models whose graph was made elsewhere: tokens in, what the last layer says of them out.

What synthc exports pools by itself; of these graphs the output is pooled here, as the model's files or
the spec say. They are used as they are: there are no weights to check them against.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from synthc.compiler import graphs, plan
from synthc.runtime.embedding.export import Graph, prompt_of
from synthc.runtime.embedding.model_files import TextModel, read_text_model
from synthc.runtime.embedding.numbers import content, misfit, open_own
from synthc.runtime.embedding.pipeline import TextEmbedder, inputs_of, pad, require_dimensions
from synthc.runtime.embedding.session import Arrays, Device, Sessions
from synthc.runtime.embedding.tokens import TokenEmbedder
from synthc.runtime.errors import RunError
from synthc.runtime.model_cache import cache_folder


class Pooled:
    """Sessions whose output is pooled, and has unit length where that is wanted.

    With the pooling `none`, or an output that is one vector for each text, nothing is pooled.
    """

    def __init__(self, sessions: Sessions, output: str, *, pooling: str, normalize: bool) -> None:
        self.device: Device = sessions.device
        self.count = sessions.count
        self.told, self.why = sessions.told, sessions.why
        self._sessions = sessions
        self._output = output
        self._pooling = pooling
        self._normalize = normalize
        self._types = {port.name: port.type for port in sessions.ports.inputs}

    def run(self, batches: Iterable[Arrays]) -> Iterator[np.ndarray]:
        """The vectors of each batch, float32 of shape (rows, dimensions), or (rows, tokens, dimensions)."""
        batches, given = itertools.tee(batches)
        made = self._sessions.run(map(self._given, given), self._output)
        for arrays, states in zip(batches, made, strict=True):
            yield self._pooled(arrays, states.astype(np.float32))

    def _given(self, arrays: Arrays) -> Arrays:
        """The inputs in the types that the graph takes."""
        return {
            name: array.astype(np.int32) if self._types.get(name) == "int32" else array
            for name, array in arrays.items()
        }

    def _pooled(self, arrays: Arrays, found: np.ndarray) -> np.ndarray:
        if found.ndim == 3 and self._pooling != "none":
            mask = arrays["attention_mask"]
            found = np.concatenate(
                [POOLINGS[name](found, mask) for name in self._pooling.split("+")], axis=1
            )
        if not self._normalize:
            return found
        lengths = np.linalg.norm(found, axis=-1, keepdims=True)
        return found / np.maximum(lengths, np.finfo(np.float32).tiny)


# Each takes the states of tokens, (rows, tokens, width), and their mask, (rows, tokens), 1 where a token
# stands, and gives (rows, width). Padding is on the right; no row is without a token.


def _mean(states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return _sum(states, mask) / mask.sum(axis=1, keepdims=True).astype(np.float32)


def _mean_sqrt_len(states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return _sum(states, mask) / np.sqrt(mask.sum(axis=1, keepdims=True)).astype(np.float32)


def _weighted_mean(states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return _mean(states, mask * np.arange(1, mask.shape[1] + 1))


def _max(states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(mask[:, :, None] > 0, states, -np.inf).max(axis=1)


def _cls(states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    del mask
    return states[:, 0]


def _last(states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return states[np.arange(len(states)), mask.sum(axis=1) - 1]


def _sum(states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.einsum("rtw,rt->rw", states, mask.astype(np.float32))


POOLINGS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "mean": _mean,
    "cls": _cls,
    "last": _last,
    "max": _max,
    "mean_sqrt_len": _mean_sqrt_len,
    "weighted_mean": _weighted_mean,
}


def open_elsewhere(spec: plan.Embedder, reference: str, path: Path) -> TextEmbedder | TokenEmbedder:
    """The embedder of a folder with a tokenizer and a graph, but no weights (`graphs.made_elsewhere`).

    Raises RunError: the graph cannot be opened, or does not fit what the plan says.
    """
    if spec.precision != "fp32":
        raise RunError(
            f"`{reference}` has a graph and no weights: it is used as it is, not in {spec.precision}",
            hint="leave `precision` out, or name a folder with model.safetensors",
        )
    model = read_text_model(path, pooling=spec.pooling, normalize=spec.normalize)
    file = graphs.file_of(model.folder)
    if isinstance(file, graphs.Misfit):
        raise misfit(reference, file)
    sessions = open_own(reference, file)
    fit = graphs.fit_texts(spec, sessions.ports)
    if isinstance(fit, graphs.Misfit):
        raise misfit(reference, fit)
    if len(fit.output.shape or ()) == 3 and model.dense:
        raise RunError(
            f"`{reference}` has dense layers behind its pooling, and no weights for them",
            hint="set `pooling` to have the vectors without them",
        )
    by_token = spec.pooling == "none"
    pooled = Pooled(
        sessions,
        fit.output.name,
        pooling=model.pooling,
        normalize=model.normalize and not by_token,
    )
    (tried,) = pooled.run([inputs_of(*pad([[model.pad_id]], model.pad_id))])
    dimensions = tried.shape[-1]
    require_dimensions(
        reference, dimensions, spec.dimensions, truncate=spec.truncate, can_truncate=not by_token
    )
    graph = _graph(model, file, dimensions, content(path, cache_folder()))
    if by_token:
        return TokenEmbedder(
            graph, session=pooled, normalize=bool(spec.normalize), max_tokens=spec.max_tokens
        )
    prompt = prompt_of(graph, prompt=spec.prompt, prompt_name=spec.prompt_name, source=reference)
    return TextEmbedder(
        graph,
        session=pooled,
        max_tokens=spec.max_tokens,
        prompt=prompt,
        dimensions=spec.dimensions,
    )


def _graph(model: TextModel, file: Path, dimensions: int, digest: str) -> Graph:
    return Graph(
        path=file,
        tokenizer=model.folder / "tokenizer.json",
        pooling=model.pooling,
        dimensions=dimensions,
        max_tokens=model.max_tokens,
        position_limit=model.position_limit,
        pad_id=model.pad_id,
        lowercase=model.lowercase,
        normalize=model.normalize,
        prompts=model.prompts,
        default_prompt=model.default_prompt,
        pools_prompt=model.pools_prompt,
        chat_template=model.chat_template,
        wraps_text=model.wraps_text,
        digest=digest,
        card={},
    )
