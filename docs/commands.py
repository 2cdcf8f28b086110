"""The page of the commands, from the commands themselves: python docs/commands.py > docs/commands.md"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from inspect import cleandoc

import click

from synthc.cli.main import COMMANDS, synthc

HEAD = """\
# The commands

<!-- Made by `python docs/commands.py > docs/commands.md` from the commands themselves: change those. -->

`synthc COMMAND --help` says the same on a terminal. Without a SPEC, a command takes the `.synth` file of the
folder; without a database, the one beside the spec: `NAME.duckdb`, or `NAME.simulated.duckdb` with
`--simulate`. Results go to stdout, and all that is said about them to stderr.

| exit status | what it says |
| --- | --- |
| 0 | done; rows that failed are counted, and stand in `synth.failures` |
| 1 | the spec has errors, a test failed, or an `expect` does not hold |
| 2 | wrong usage |
| 3 | stopped before the end; run it again, and it goes on |
| 70 | a fault of synthc's own |
| 130 | Ctrl-C |

| environment variable | what it does |
| --- | --- |
| those that a spec names with `env(…)` | may also stand in a file `.env` beside the spec |
| `SYNTHC_CACHE` | the folder of models, graphs and datasets, instead of the system's for caches |
| `HF_TOKEN` | the token for private repositories of the Hugging Face Hub, and for `--push` |
| `CUDA_VISIBLE_DEVICES` | the GPUs that embedders use |
| `SYNTHC_TENSORRT` | `1`: embedders use [TensorRT](embeddings.md#on-a-gpu) on these |
| `NO_COLOR` | no colours on a terminal |
"""


def page() -> str:
    """The whole page, in Markdown."""
    context = click.Context(synthc, info_name="synthc")
    found = [each for name in COMMANDS for each in _commands(name, context)]
    contents = [
        f"| [`{c.command_path}`](#{c.command_path.replace(' ', '-')}) | {_summary(c.command)} |"
        for c in found
    ]
    lines = [HEAD, "| command | what it does |", "| --- | --- |", *contents, ""]
    return "\n".join([*lines, *(part for each in found for part in _section(each))])


def _commands(name: str, above: click.Context) -> Iterator[click.Context]:
    """A command, or those of a group."""
    assert isinstance(above.command, click.Group)
    command = above.command.get_command(above, name)
    assert command
    context = click.Context(command, info_name=name, parent=above)
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            yield from _commands(each, context)
    else:
        yield context


def _section(context: click.Context) -> Iterator[str]:
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"## `{context.command_path}`\n"
    yield f"```text\n{context.command_path} {usage}\n```\n"
    yield from (f"{paragraph}\n" for paragraph in _paragraphs(command))
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    yield "| option | what it does |"
    yield "| --- | --- |"
    yield from (_row(option, context) for option in options)
    yield ""


def _paragraphs(command: click.Command) -> Iterator[str]:
    """What `--help` says; paragraphs that keep their lines there are blocks here."""
    for paragraph in cleandoc(command.help or "").split("\n\n"):
        kept = paragraph.startswith("\b\n")
        yield f"```text\n{paragraph[2:]}\n```" if kept else paragraph


def _row(option: click.Option, context: click.Context) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else f" {option.make_metavar(context)}"
    more = [_range(option.type), *(["required"] * option.required)]
    notes = "; ".join([*(["may be repeated"] * option.multiple), *(note for note in more if note)])
    said = (option.help or "").replace("|", "\\|")
    return (
        f"| `{names}{_plain(value)}` | {said}{' ' * bool(said and notes)}{notes and f'({notes})'} |"
    )


def _plain(value: str) -> str:
    """A placeholder as usage lines have it: a range stands in its note."""
    return value.replace(" RANGE", "").replace("|", "\\|")


def _range(kind: click.ParamType) -> str:
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return ""
    low, high = kind.min, kind.max
    if high is not None and high < sys.maxsize:
        return f"{low} to {high}"
    return f"more than {low}" if kind.min_open else f"{low} or more"


def _summary(command: click.Command) -> str:
    first = cleandoc(command.help or "").partition("\n\n")[0]
    return " ".join(first.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - it is made to be redirected
