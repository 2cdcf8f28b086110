"""What a backend and an embedder may say, and the plan's records made from it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from synthc.compiler import ast, plan
from synthc.compiler.check.values import described
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import Problem, nearest

Report = Callable[[Problem], None]
Reader = Callable[[ast.Value], Any]
"""A value as written → the setting's value, or BAD."""

BAD = object()
_PROTOCOLS = ("openai", "anthropic")
_LONGEST = 4096
"""`max_tokens` where a spec has none and the protocol must have one."""


def _text(value: ast.Value) -> Any:
    return value.text if isinstance(value, ast.String) else BAD


def _setting(value: ast.Value) -> Any:
    """Text, or `env("NAME")`, or `env("NAME", "default")`."""
    match value:
        case ast.String(text):
            return BAD if _VARIABLE.fullmatch(text) else text
        case ast.Apply(ast.Path((ast.Name("env"),)), (ast.String(name),)) if name:
            return plan.Env(name)
        case ast.Apply(ast.Path((ast.Name("env"),)), (ast.String(name), ast.String(default))) if (
            name
        ):
            return plan.Env(name, default)
        case _:
            return BAD


def _number(low: float, high: float, *, whole: bool = False, above: bool = False) -> Reader:
    def read(value: ast.Value) -> Any:
        match value:
            case ast.Literal(bool() | None):
                return BAD
            case ast.Literal(float() | int() as number):
                if (whole and not isinstance(number, int)) or not low <= number <= high:
                    return BAD
                if above and number == low:
                    return BAD
                return number if whole else float(number)
            case _:
                return BAD

    return read


def _protocol(value: ast.Value) -> Any:
    """A protocol that is built in, or that an installed package brings: it is not imported."""
    if not isinstance(value, ast.String):
        return BAD
    return value.text if value.text in _PROTOCOLS or value.text in _installed() else BAD


def _installed() -> set[str]:
    return entry_points(group=plan.PROTOCOLS).names


def _one_of(*words: str) -> Reader:
    return lambda value: (
        value.text if isinstance(value, ast.String) and value.text in words else BAD
    )


def _texts(value: ast.Value) -> Any:
    """A text, or a list of them; `""` and `[]` are none, and take away what `extends` brought."""
    match value:
        case ast.String(text):
            return (text,) if text else ()
        case ast.ListValue(items):
            texts = tuple(item.text for item in items if isinstance(item, ast.String) and item.text)
            return texts if len(texts) == len(items) else BAD
        case _:
            return BAD


def _name(value: ast.Value) -> Any:
    return str(value) if isinstance(value, ast.Path) else BAD


def _truth(value: ast.Value) -> Any:
    match value:
        case ast.Literal(bool() as truth):
            return truth
        case _:
            return BAD


def _address(value: ast.Value) -> Any:
    """The address of a server: without `http://` no request could be sent."""
    found = _setting(value)
    return BAD if isinstance(found, str) and found and not _ADDRESS.match(found) else found


_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_MODEL = 'text in quotes, or `env("NAME")`'
_URL = 'an address in quotes, `"http://…"`, or `env("NAME")`'
_NAME = "the name of another backend"
_MANY = 10**9

BACKEND: Mapping[str, tuple[str, Reader]] = {
    "protocol": ("the name of a protocol, in quotes", _protocol),
    "url": (_URL, _address),
    "model": (_MODEL, _setting),
    "api_key": (_MODEL, _setting),
    "temperature": ("a number from 0 to 2", _number(0, 2)),
    "max_tokens": ("a whole number from 1", _number(1, _MANY, whole=True)),
    "top_p": ("a number above 0, up to 1", _number(0, 1, above=True)),
    "stop": ("text, or a list of texts that are not empty", _texts),
    "seed": ("a whole number", _number(-(2**63), 2**63, whole=True)),
    "concurrency": ("a whole number from 1 to 10000", _number(1, 10_000, whole=True)),
    "attempts": ("a whole number from 1 to 100", _number(1, 100, whole=True)),
    "timeout_s": ("a number of seconds above 0", _number(0, 86_400, above=True)),
    "reasks": ("a whole number from 0 to 20", _number(0, 20, whole=True)),
    "requests_per_minute": ("a whole number from 1", _number(1, _MANY, whole=True)),
    "tokens_per_minute": ("a whole number from 1", _number(1, _MANY, whole=True)),
    "fallback": (_NAME, _name),
}
_SAMPLING = ("temperature", "max_tokens", "top_p", "stop", "seed")
_BACKEND_GROUPS = ("headers", "extra", "price")

EMBEDDER: Mapping[str, tuple[str, Reader]] = {
    "model": (_MODEL, _setting),
    "dimensions": ("a whole number from 1 to 100000", _number(1, 100_000, whole=True)),
    "input": (
        'one of "text", "image", "audio", "vector"',
        _one_of("text", "image", "audio", "vector"),
    ),
    "input_name": ("text in quotes", _text),
    "output_name": ("text in quotes", _text),
    "pooling": (
        'one of "mean", "cls", "last", "max", "none"',
        _one_of("mean", "cls", "last", "max", "none"),
    ),
    "layer": ('one of "input", "last"', _one_of("input", "last")),
    "normalize": ("true or false", _truth),
    "max_tokens": ("a whole number from 1", _number(1, _MANY, whole=True)),
    "precision": ('one of "fp32", "fp16", "int8"', _one_of("fp32", "fp16", "int8")),
    "prompt": ("text in quotes", _text),
    "prompt_name": ("text in quotes", _text),
    "truncate": ("true or false", _truth),
    "url": (_URL, _address),
    "api_key": (_MODEL, _setting),
}
_OF_TEXTS = ("max_tokens", "prompt", "prompt_name", "layer")
_OF_GRAPHS = ("precision", "input_name", "output_name")
_OF_WHOLE_TEXTS = ("prompt", "prompt_name", "truncate")
_LOCAL = ("pooling", "normalize", "max_tokens", "precision", "prompt_name", "truncate")
_LOCAL += ("input", "input_name", "output_name", "layer")

_PRICE: Mapping[str, tuple[str, Reader]] = {
    "input_usd_per_mtok": ("a number of dollars from 0", _number(0, _MANY)),
    "output_usd_per_mtok": ("a number of dollars from 0", _number(0, _MANY)),
}


def backend(node: ast.Backend, report: Report) -> plan.Backend | None:
    """The plan's backend, or None where a problem was reported."""
    block = f"the backend `{node.name.text}`"
    found = _read(node.settings, BACKEND, _BACKEND_GROUPS, "backend", block, report)
    if found is None:
        return None
    values, groups = found
    if not _complete(node.name, values, ("model",), block, report):
        return None
    headers = _free(groups.get("headers", ()), _setting, _MODEL, report)
    extra = _free(groups.get("extra", ()), _json, "a literal, a list or a group", report)
    price = _read(groups.get("price", ()), _PRICE, (), "price", "`price`", report)
    if headers is None or extra is None or price is None:
        return None
    sampling = {name: values.pop(name) for name in _SAMPLING if name in values}
    if values.get("protocol") == "anthropic":
        where = 'where the protocol is "anthropic", which has none'
        if not _left_out(node.settings, ("seed",), where, report):
            return None
        if not _cool(node.settings, sampling.get("temperature"), report):
            return None
        sampling.setdefault("max_tokens", _LONGEST)
    return plan.Backend(
        name=node.name.text,
        span=node.span,
        **values,
        headers=headers,
        sampling=plan.Sampling(**sampling, extra=extra),
        price=plan.Price(**price[0]) if "price" in groups else None,
    )


def check_fallbacks(
    nodes: Mapping[str, ast.Backend], backends: Mapping[str, plan.Backend | None], report: Report
) -> None:
    """Report the fallbacks that are no backend, and those that go round in a circle."""
    for name, node in nodes.items():
        value = next((s.value for s in node.settings if s.name.text == "fallback"), None)
        if not isinstance(value, ast.Path):
            continue
        if str(value) not in nodes:
            known = tuple(other for other in nodes if other != name)
            report(
                problems.UnknownDeclaration(
                    span=value.span, kind="backend", name=str(value), known=known
                )
            )
            continue
        trail = [name]
        while (spec := backends[trail[-1]]) and (next_ := spec.fallback) in backends:
            assert next_ is not None
            if next_ in trail:
                circle = tuple(trail[trail.index(next_) :])
                if name == min(circle):
                    report(problems.Cycle(span=value.span, kind="fallbacks", names=circle))
                break
            trail.append(next_)


def embedder(node: ast.Embedder, report: Report) -> plan.Embedder | None:
    """The plan's embedder, or None where a problem was reported."""
    block = f"the embedder `{node.name.text}`"
    found = _read(node.settings, EMBEDDER, (), "embedder", block, report)
    if found is None or not _complete(node.name, found[0], ("model", "dimensions"), block, report):
        return None
    values = found[0]
    takes = values.get("input", "text")
    exclusive = (
        ("url" in values, _LOCAL, "where a server embeds (`url`)"),
        ("prompt" in values, ("prompt_name",), "where `prompt` is set"),
        (
            values.get("pooling") == "none",
            _OF_WHOLE_TEXTS,
            "where every token has its vector (`pooling`)",
        ),
        (takes != "text", _OF_TEXTS, f'where no text is embedded (`input = "{takes}"`)'),
        (
            values.get("layer") == "input",
            _OF_GRAPHS,
            'where no graph is run (`layer = "input"`)',
        ),
        (takes == "vector", ("pooling", "precision"), 'where it is numbers (`input = "vector"`)'),
    )
    for given, names, where in exclusive:
        if given and not _left_out(node.settings, names, where, report):
            return None
    known = None
    if takes in ("image", "audio") and values.get("pooling") in ("none", "last"):
        known = f'"mean", "cls" or "max" where the input is "{takes}"'
    elif values.get("layer") == "input" and values.get("pooling", "mean") != "mean":
        known = '"mean" where the vectors are those of a table (`layer = "input"`)'
    if known:
        value = next(s.value for s in node.settings if s.name.text == "pooling")
        assert not isinstance(value, tuple)
        report(
            problems.BadValue(
                span=value.span, what="`pooling`", wanted=known, found=described(value)
            )
        )
        return None
    return plan.Embedder(name=node.name.text, span=node.span, **values)


def _left_out(
    settings: tuple[ast.Setting, ...], names: tuple[str, ...], where: str, report: Report
) -> bool:
    """Whether none of the settings has one of the names; each that has is reported."""
    there = [setting for setting in settings if setting.name.text in names]
    for setting in there:
        found = "a group" if isinstance(setting.value, tuple) else described(setting.value)
        report(
            problems.BadValue(
                span=setting.span,
                what=f"`{setting.name.text}`",
                wanted=f"left out {where}",
                found=found,
            )
        )
    return not there


def _cool(settings: tuple[ast.Setting, ...], temperature: float | None, report: Report) -> bool:
    """Whether a temperature is one of Anthropic's; one that is not is reported."""
    if temperature is None or temperature <= 1:
        return True
    value = next(s.value for s in settings if s.name.text == "temperature")
    assert not isinstance(value, tuple)
    wanted = 'a number from 0 to 1 where the protocol is "anthropic"'
    report(
        problems.BadValue(
            span=value.span, what="`temperature`", wanted=wanted, found=described(value)
        )
    )
    return False


def _complete(
    name: ast.Name, values: Mapping[str, Any], needed: tuple[str, ...], block: str, report: Report
) -> bool:
    missing = [word for word in needed if word not in values]
    for word in missing:
        report(problems.MissingSetting(span=name.span, block=block, name=word))
    return not missing


def _read(
    settings: tuple[ast.Setting, ...],
    known: Mapping[str, tuple[str, Reader]],
    groups: tuple[str, ...],
    kind: str,
    block: str,
    report: Report,
) -> tuple[dict[str, Any], dict[str, tuple[ast.Setting, ...]]] | None:
    """Values by name, and groups by name; None where a problem was reported."""
    values: dict[str, Any] = {}
    nested: dict[str, tuple[ast.Setting, ...]] = {}
    first: dict[str, ast.Name] = {}
    sound = True
    for setting in settings:
        name = setting.name.text
        span = setting.name.span
        if name in first:
            report(
                problems.DuplicateDeclaration(
                    span=span, kind="setting", name=name, first=first[name].span
                )
            )
            sound = False
            continue
        first[name] = setting.name
        if name in groups and isinstance(setting.value, tuple):
            nested[name] = setting.value
        elif name in groups or (name in known and isinstance(setting.value, tuple)):
            form = f"{name} {{ … }}" if name in groups else f"{name} = …"
            report(problems.WrongCall(span=span, callee=name, form=form))
            sound = False
        elif name not in known or isinstance(setting.value, tuple):
            report(
                problems.UnknownSetting(
                    span=span,
                    block=block,
                    name=name,
                    known=(*known, *groups),
                    advice=_other_name(kind, name),
                )
            )
            sound = False
        else:
            wanted, read = known[name]
            value = read(setting.value)
            if value is BAD and read is _protocol:
                names = dict.fromkeys((*_PROTOCOLS, *sorted(_installed())))
                wanted = " or ".join(f'"{name}"' for name in names)
            if value is BAD:
                report(
                    problems.BadValue(
                        span=setting.value.span,
                        what=f"`{name}`",
                        wanted=wanted,
                        found=_found(setting.value),
                        near=nearest(_word(setting.value), re.findall(r'"(\w+)"', wanted)),
                        advice=_advice(name, setting.value, wanted),
                    )
                )
            values[name] = value
            sound = sound and value is not BAD
    return (values, nested) if sound else None


_ELSEWHERE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "backend": {
        "url": ("base_url", "api_base", "endpoint", "host", "server", "address"),
        "model": ("model_name", "model_id", "name", "deployment", "engine"),
        "api_key": ("key", "token", "apikey", "secret"),
        "attempts": ("max_retries", "retries", "retry"),
        "timeout_s": ("timeout",),
        "concurrency": ("max_concurrency", "parallel", "batch_size", "workers", "num_workers"),
        "max_tokens": ("max_new_tokens", "max_length", "max_completion_tokens"),
        "protocol": ("provider", "type", "api"),
        "requests_per_minute": ("rpm", "max_requests_per_minute", "rate_limit", "rate"),
        "tokens_per_minute": ("tpm", "max_tokens_per_minute"),
        "fallback": ("fallbacks", "backup", "alternative"),
    },
    "embedder": {
        "url": ("base_url", "api_base", "endpoint", "host", "server", "address"),
        "api_key": ("key", "token", "apikey", "secret"),
        "dimensions": ("dim", "dims", "dimension", "size"),
        "model": ("model_name", "model_id", "name"),
        "normalize": ("normalise", "normalize_embeddings", "normalized"),
        "max_tokens": ("max_seq_length", "max_length"),
        "precision": ("dtype", "torch_dtype", "quantization", "quantize"),
        "prompt": ("prefix", "instruction", "query_prompt"),
        "truncate": ("truncate_dim", "matryoshka"),
        "input_name": ("inputs",),
        "output_name": ("outputs", "output"),
    },
    "price": {
        "input_usd_per_mtok": ("input", "prompt", "in"),
        "output_usd_per_mtok": ("output", "completion", "out"),
    },
}
_SERVERS = ("top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
_SERVERS += ("logit_bias", "num_ctx", "n_predict", "reasoning_effort", "response_format")


def _other_name(kind: str, name: str) -> str | None:
    """What a setting is called here that other tools call so."""
    if kind == "backend" and name in _SERVERS:
        return f"what only some servers take stands in a group: `extra {{ {name} = … }}`"
    for ours, theirs in _ELSEWHERE.get(kind, {}).items():
        if name in theirs:
            return f"did you mean `{ours}`?"
    return None


def _found(value: ast.Value) -> str:
    return f"`{value}` without quotes" if isinstance(value, ast.Path) else described(value)


def _advice(setting: str, value: ast.Value, wanted: str) -> str | None:
    """How it is written, where it is the environment that was meant, a number in quotes, nothing."""
    match value:
        case ast.Literal(int() | float() as number) if setting == "temperature" and number > 2:
            return f"a server that takes more is told so in a group: `extra {{ temperature = {number} }}`"
        case ast.Path() if str(value) in ("None", "none", "nil", "undefined"):
            return "leave it out"
        case ast.Literal(None):
            return "leave it out"
        case ast.String(text) if wanted.startswith("a ") and re.fullmatch(r"-?\d+(\.\d+)?", text):
            return f"a number stands without quotes: `{text}`"
        case ast.String(text) if wanted == _NAME:
            return f"a name stands without quotes: `{text}`"
        case ast.String(text) if found := _VARIABLE.fullmatch(text):
            return f'the environment is read with `env("{found[1] or found[2]}")`'
        case _ if wanted not in (_MODEL, _URL):
            return None
        case ast.ParameterValue(name) | ast.Path((ast.Name("env" | "ENV"), ast.Name(name))):
            return f'the environment is read with `env("{name}")`'
        case ast.String(text):
            return f'write `"http://{text}"`' if wanted == _URL else None
        case ast.Path():
            return f'text stands in quotes: `"{value}"`'
        case ast.Apply(function, (ast.String(name) | ast.Path((ast.Name(name),)), *_)):
            env = str(function).split(".")[-1] in ("env", "getenv", "environ", "env_var", "get")
            return f'the environment is read with `env("{name}")`' if env else None
        case _:
            return None


_VARIABLE = re.compile(r"\$\{?(?:env:)?([A-Za-z_]\w*)\}?|\{\{ *env_var\(['\"](\w+)['\"]\) *\}\}")


def _word(value: ast.Value) -> str:
    return value.text if isinstance(value, ast.String) else ""


def _free(
    settings: tuple[ast.Setting, ...], read: Reader, wanted: str, report: Report
) -> dict[str, Any] | None:
    """A group whose names are the user's own."""
    values: dict[str, Any] = {}
    sound = True
    for setting in settings:
        if isinstance(setting.value, tuple):
            value = _free(setting.value, read, wanted, report) if read is _json else BAD
        else:
            value = read(setting.value)
        if value is BAD:
            place = setting.name.span if isinstance(setting.value, tuple) else setting.value.span
            found = "a group" if isinstance(setting.value, tuple) else described(setting.value)
            what = f"`{setting.name.text}`"
            report(problems.BadValue(span=place, what=what, wanted=wanted, found=found))
        sound = sound and value is not BAD and value is not None
        values[setting.name.text] = value
    return values if sound else None


def _json(value: ast.Value) -> Any:
    match value:
        case ast.String(text):
            return text
        case ast.Literal(int() | float() as number):
            return number if math.isfinite(number) else BAD
        case ast.ListValue(items):
            read = [_json(item) for item in items]
            return BAD if BAD in read else read
        case _:
            return BAD
