"""What each step of a chain finds, does and leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from synthc.compiler import ast, plan, typed, types
from synthc.compiler.check.arguments import bind_arguments
from synthc.compiler.check.samples import check_draws
from synthc.compiler.check.scope import Scope
from synthc.compiler.check.sql_problems import Surroundings
from synthc.compiler.check.tasks import MODEL_NAME
from synthc.compiler.check.values import assignable, described
from synthc.compiler.diagnostics import catalogue as problems
from synthc.compiler.diagnostics.problem import listed
from synthc.compiler.parse.words import FORMS, SOURCES
from synthc.compiler.types import Field

_EMBEDDING = "embedding"
THIS = "this"
"""What SQL over all rows of a chain calls them."""


_WHICH = {"words": 'words = "mean"', "spans": "spans = entities", "system": "system = persona"}
"""The arguments of `embed`: of which parts of a text there are to be vectors, or what goes before it."""

_PLAIN = ("where", "select", "limit", "unnest", "dedup")
"""The steps that use nothing and need no name."""


def check_step(scope: Scope, node: ast.Step | ast.SqlStep) -> typed.Step | None:
    """The step with everything resolved, and the scope as it leaves it; None where it does not hold."""
    if isinstance(node, ast.SqlStep):
        return _whole(scope, node)
    for word, said in (("using", node.usings), ("as", node.aliases)):
        if len(said) > 1:
            scope.report(problems.SaidTwice(span=said[1].span, word=word))
            scope.columns_known = False
            return None
    callee = str(node.call.callee)
    for word, said in (("using", node.usings), ("as", node.aliases)):
        if said and (callee in _PLAIN or (callee == "draw" and word == "using")):
            scope.report(problems.NothingToUse(span=said[0].span, word=word, callee=callee))
            return None
    if callee in _STEPS:
        return _STEPS[callee](scope, node)
    if callee not in scope.known.tasks:
        _no_step(scope, node.call, callee)
        return None
    task = scope.known.tasks[callee]
    scope.columns_known = task is not None
    return _task(scope, node, task) if task else None


def _no_step(scope: Scope, node: ast.Call, callee: str) -> None:
    scope.columns_known = False
    if callee in scope.known.tables and scope.known.tables[callee] is None:
        return  # it may be one that was meant as a task
    if callee in SOURCES:
        form = f"table {scope.table} = {FORMS[callee]}"
        scope.report(problems.WrongCall(span=node.span, callee=callee, form=form))
    else:
        steps = tuple(name for name in FORMS if name not in SOURCES)
        near = str(node.callee.names[0].text)
        advice = (
            f"did you mean `{near}`?" if near in scope.known.tasks else _other_step(scope, callee)
        )
        scope.report(
            problems.UnknownDeclaration(
                span=node.callee.span,
                kind="task or step",
                name=callee,
                known=(*scope.known.tasks, *steps),
                advice=advice,
            )
        )


_SQL_STEP = 'it takes all rows at once: `|> sql "SELECT … FROM this'
_STEPS_OF_OTHERS = {
    **dict.fromkeys(("filter", "keep"), 'rows are kept by `where("…")`'),
    **dict.fromkeys(("map", "apply", "transform"), "a task is a step by its own name: `|> task`"),
    **dict.fromkeys(("head", "take", "top", "first"), "the first rows are taken by `limit(10)`"),
    **dict.fromkeys(("explode", "flatten", "expand"), "lists are taken apart by `unnest(x as y)`"),
    **dict.fromkeys(("distinct", "unique", "drop_duplicates"), "equal rows go by `dedup(column)`"),
    **dict.fromkeys(("mutate", "with_columns", "assign"), 'columns: `select("*, … AS name")`'),
    "rename": 'columns: `select("* RENAME (old AS new)")`',
    **dict.fromkeys(("drop", "drop_columns", "remove"), 'columns: `select("* EXCLUDE (name)")`'),
    **dict.fromkeys(("shuffle", "permute"), f'{_SQL_STEP} ORDER BY hash(x)"`'),
    **dict.fromkeys(
        ("batch", "parallel", "workers"),
        "rows are asked beside each other by themselves: `concurrency` of the backend",
    ),
    **dict.fromkeys(("order_by", "sort", "orderby", "sort_by"), f'{_SQL_STEP} ORDER BY …"`'),
    **dict.fromkeys(("group_by", "groupby", "aggregate", "reduce"), f'{_SQL_STEP} GROUP BY …"`'),
    **dict.fromkeys(("join", "merge", "union", "concat"), f'{_SQL_STEP} JOIN …"`'),
    **dict.fromkeys(("export", "save", "write"), 'files: `export table to "file.parquet"`'),
}
"""Steps that other tools have, and how it is done here."""


def _other_step(scope: Scope, callee: str) -> str | None:
    if callee in scope.known.tables:
        return f"`{callee}` is a table: a table stands first, and SQL joins several"
    base = callee.split(".", maxsplit=1)[0]
    used = any(name.startswith(f"{base}.") for name in scope.known.tasks)
    if "." in callee and not used and base in ("evol", "chat", "embedding", "score"):
        return f'its file must be used: `use "std/{base}"`'
    return _STEPS_OF_OTHERS.get(callee.rsplit(".", maxsplit=1)[-1])


def check_names_only(scope: Scope, node: ast.Step | ast.SqlStep) -> None:
    """Check what can be checked of a step whose columns are unknown."""
    if isinstance(node, ast.SqlStep):
        return
    callee = str(node.call.callee)
    if callee not in (*_STEPS, *scope.known.tasks):
        _no_step(scope, node.call, callee)
    for name in node.usings:
        known = tuple(scope.known.embedders) if callee == "embed" else scope.known.backends
        kind = "embedder" if callee == "embed" else "backend"
        if str(name) not in known and (callee == "embed" or callee in scope.known.tasks):
            scope.report(
                problems.UnknownDeclaration(span=name.span, kind=kind, name=str(name), known=known)
            )


def _sql_text(scope: Scope, node: ast.Step, callee: str) -> ast.String | None:
    match node.call.arguments:
        case (ast.Argument(None, ast.String() as text),):
            return text
        case _:
            words = _words(node.call.arguments) if callee == "select" else None
            if callee == "where" and (equal := _equal(node.call.arguments)):
                words = [equal]
            scope.wrong(
                callee, node.call.span, f'{callee}("{", ".join(words)}")' if words else None
            )
            return None


def _equal(arguments: tuple[ast.Argument, ...]) -> str | None:
    """The condition that was meant by `label = "good"`, without its quotes."""
    match arguments:
        case (ast.Argument(ast.Name(name), ast.String(text)),) if '"' not in text:
            shown = text.replace("'", "''")
            return f"{name} = '{shown}'"
        case (ast.Argument(ast.Name(name), (ast.Path() | ast.Literal()) as value),):
            shown = str(value) if isinstance(value, ast.Path) else described(value)
            return f"{name} IS NULL" if shown == "null" else f"{name} = {shown}"
        case _:
            return None


def _words(arguments: tuple[ast.Argument, ...]) -> list[str] | None:
    """The columns that were meant, in quotes, without them or in a list; None where others stand there."""
    found: list[str] = []
    for argument in arguments:
        values = (
            argument.value.items if isinstance(argument.value, ast.ListValue) else [argument.value]
        )
        for value in values:
            match value:
                case ast.String(text) if text.isidentifier():
                    found.append(text)
                case ast.Path():
                    found.append(str(value))
                case _:
                    return None
    return found or None


def _where(scope: Scope, node: ast.Step) -> typed.Where | None:
    text = _sql_text(scope, node, "where")
    if text is None:
        return None
    bound = scope.binder.condition(text, scope.around, scope.report)
    return typed.Where(bound, node.span) if bound else None


def _select(scope: Scope, node: ast.Step) -> typed.Select | None:
    text = _sql_text(scope, node, "select")
    if text is None:
        scope.columns_known = False
        return None
    bound = scope.binder.columns(text, scope.around, scope.report)
    if bound is None:
        scope.columns_known = False
        return None
    # A column that only passes through keeps what is known of it (`T?`, a choice).
    kept = {name: scope.type_of(path) for name, path in (bound.plain or {}).items()}
    scope.columns = {field.name: kept.get(field.name, field.type) for field in bound.fields}
    scope.absent.clear()
    return typed.Select(bound, node.span)


def _embed(scope: Scope, node: ast.Step) -> typed.Embed | None:
    match node.call.arguments:
        case (ast.Argument(None, ast.Path() as value), *rest) if all(a.name for a in rest):
            which = [(argument.name.text, argument.value) for argument in rest if argument.name]
            if len(which) > 1 or (which and which[0][0] not in _WHICH):
                forms = "` or `".join(f"embed({value}, {form})" for form in _WHICH.values())
                scope.wrong("embed", node.call.span, forms)
                return None
        case _:
            words = _words(node.call.arguments) or []
            scope.wrong("embed", node.call.span, f"embed({words[0]})" if len(words) == 1 else None)
            return None
    path = scope.path(value)
    name = scope.using(node, "embedder", tuple(scope.known.embedders))
    if path is None or name is None:
        return None
    embedder = scope.known.embedders[name]
    if embedder is None:
        scope.columns_known = False
        return None
    if embedder.input != "text" and which:
        _no_text(scope, *which[0], embedder)
        return None
    found = types.required(scope.type_of(path))
    whole = embedder.input == "text" and embedder.url is None and embedder.pooling != "none"
    whole = whole and embedder.layer != "input"
    chat = whole and not which and not _takes("text", found)
    if not (_takes(embedder.input, found) or (chat and assignable(found, types.Chat()))):
        expected = (
            "text or chat" if whole and not which else types.name(plan.EMBEDDED[embedder.input])
        )
        fitting = next((kind for kind in plan.EMBEDDED if _takes(kind, found)), None)
        advice = None
        if fitting:
            advice = f'`input = "{fitting}"` in `{embedder.name}` is for models that take it'
        scope.report(
            problems.WrongType(
                span=value.span,
                what="what is embedded",
                expected=expected,
                found=types.name(found),
                advice=advice,
            )
        )
        return None
    fit = scope.known.fits.get(name)
    if fit and fit.numbers and isinstance(found, types.Vector) and found.size != fit.numbers:
        scope.report(
            problems.WrongType(
                span=value.span,
                what="what is embedded",
                expected=types.name(types.Vector(fit.numbers)),
                found=types.name(found),
                advice=f"the graph of `{name}` takes {fit.numbers} numbers as `{fit.input.name}`",
            )
        )
        return None
    parts, spans, system = "tokens" if embedder.pooling == "none" else None, None, None
    if which and which[0][0] == "system":
        system = _system(scope, which[0][1], embedder)
        if system is None:
            scope.columns_known = False
            return None
    elif which:
        asked = _parts(scope, *which[0], embedder)
        if asked is None:
            scope.columns_known = False
            return None
        parts, spans = asked
    column = node.aliases[0].text if node.aliases else _EMBEDDING
    place = node.aliases[0].span if node.aliases else node.call.callee.span
    advice = None if node.aliases else f"name the vector: `as {column}2`"
    if scope.taken(column, place, advice):
        return None
    step = typed.Embed(
        path,
        name,
        embedder.dimensions,
        column,
        node.span,
        embedder.input,
        parts,
        spans,
        chat,
        system,
    )
    scope.columns[column] = step.type
    return step


def _takes(kind: plan.Input, found: types.Type) -> bool:
    """Whether a model of that input embeds a column of this type: no file's path is taken for a text."""
    if kind == "text" and isinstance(found, types.Image | types.Audio):
        return False
    return assignable(found, plan.EMBEDDED[kind])


def _no_text(scope: Scope, which: str, value: ast.Value, embedder: plan.Embedder) -> None:
    """Report `words`, `spans` or `system` where the model reads no text."""
    wanted = f'left out where no text is embedded (`input = "{embedder.input}"`)'
    scope.report(
        problems.BadValue(span=value.span, what=f"`{which}`", wanted=wanted, found=described(value))
    )


def _system(scope: Scope, value: ast.Value, embedder: plan.Embedder) -> typed.Path | None:
    """The column that `system` names, whose text goes before another as the system's turn."""
    wanted, advice = "a column", None
    if embedder.url is not None:
        wanted = "left out where a server embeds (`url`)"
    elif embedder.pooling == "none":
        wanted = "left out where every token has its vector (`pooling`)"
    elif embedder.layer == "input":
        wanted = 'left out where no model is run (`layer = "input"`)'
    elif isinstance(value, ast.Path):
        path = scope.path(value)
        found = types.required(scope.type_of(path)) if path else types.Text()
        if assignable(found, types.Text()):
            return path
        what = "what `system` says"
        scope.report(
            problems.WrongType(span=value.span, what=what, expected="text", found=types.name(found))
        )
        return None
    elif isinstance(value, ast.String) and value.text.isidentifier():
        advice = f"a column stands without quotes: `system = {value.text}`"
    scope.report(
        problems.BadValue(
            span=value.span, what="`system`", wanted=wanted, found=described(value), advice=advice
        )
    )
    return None


def _parts(
    scope: Scope, which: str, value: ast.Value, embedder: plan.Embedder
) -> tuple[plan.Parts, typed.Path | None] | None:
    """The parts of a text that `words` or `spans` asks for, and the column that holds the spans."""
    if embedder.pooling != "none":
        advice = f'`pooling = "none"` in `{embedder.name}` gives a vector for each token'
        if embedder.url is not None:
            advice = (
                "servers give one vector for a text: leave `url` out, with a model on this machine"
            )
        scope.report(
            problems.BadValue(
                span=value.span,
                what=f"`{which}`",
                wanted="left out where a text has one vector",
                found=described(value),
                advice=advice,
            )
        )
        return None
    match which, value:
        case "words", ast.String("mean"):
            return "words", None
        case "words", ast.String("first"):
            return "first tokens", None
        case "spans", ast.Path():
            path = scope.path(value)
            return ("spans", path) if path and _are_spans(scope, path, value) else None
        case _:
            wanted = '"mean" or "first"' if which == "words" else "a column"
            advice = None
            if which == "words" and isinstance(value, ast.Path):
                advice = f'text stands in quotes: `words = "{value}"`'
            elif which == "spans" and isinstance(value, ast.String) and value.text.isidentifier():
                advice = f"a column stands without quotes: `spans = {value.text}`"
            scope.report(
                problems.BadValue(
                    span=value.span,
                    what=f"`{which}`",
                    wanted=wanted,
                    found=described(value),
                    advice=advice,
                )
            )
            return None


def _are_spans(scope: Scope, path: typed.Path, value: ast.Path) -> bool:
    found = types.required(scope.type_of(path))
    record = types.element(found)
    fields = record.fields if isinstance(record, types.Record) else ()
    known = {field.name: field.type for field in fields}
    wanted = types.LABELS.fields
    if found in (types.Json(), types.NULL) or all(
        field.name in known and assignable(known[field.name], field.type) for field in wanted
    ):
        return True
    expected, shown = types.name(types.ListOf(types.LABELS)), types.name(found)
    scope.report(
        problems.WrongType(
            span=value.span,
            what="what names the spans",
            expected=expected,
            found=shown,
            advice="`json` is taken too, and looked at row by row",
        )
    )
    return False


def _limit(scope: Scope, node: ast.Step) -> typed.Limit | None:
    count = scope.count(node.call, "limit", ("per",))
    if count is None:
        return None
    match node.call.arguments[1:]:
        case ():
            return typed.Limit(count, None, node.span)
        case (ast.Argument(_, ast.Path() as value),):
            path = scope.path(value)
            if path is None or not _is_label(scope, path, value):
                return None
            return typed.Limit(count, path, node.span)
        case (ast.Argument(_, ast.String(text)),) if text.isidentifier():
            scope.wrong("limit", node.call.span, f"limit({count}, per = {text})")
            return None
        case _:
            scope.wrong("limit", node.call.span)
            return None


def _is_label(scope: Scope, path: typed.Path, value: ast.Path) -> bool:
    found = types.required(scope.type_of(path))
    if isinstance(found, types.Text | types.Int | types.Bool | types.Choice):
        return True
    scope.report(
        problems.WrongType(
            span=value.span,
            what="what is counted per",
            expected="a choice, text, int or bool",
            found=types.name(found),
        )
    )
    return False


def _dedup(scope: Scope, node: ast.Step) -> typed.Dedup | None:
    paths: list[typed.Path] = []
    match node.call.arguments:
        case (
            ast.Argument(None, ast.Path() as value),
            ast.Argument(ast.Name("similar"), threshold),
        ):
            return _similar(scope, node, value, threshold)
        case _:
            pass
    for argument in node.call.arguments:
        if argument.name or argument.alias or not isinstance(argument.value, ast.Path):
            words = _words(node.call.arguments)
            scope.wrong("dedup", node.call.span, f"dedup({', '.join(words)})" if words else None)
            return None
        path = scope.path(argument.value)
        if path is None:
            return None
        paths.append(path)
    if not paths:
        scope.wrong("dedup", node.call.span)
        return None
    return typed.Dedup(tuple(paths), node.span)


def _similar(
    scope: Scope, node: ast.Step, column: ast.Path, threshold: ast.Value
) -> typed.Dedup | None:
    path = scope.path(column)
    number: object = None
    shown = described(threshold)
    match threshold:
        case ast.Literal(value):
            number = value
        case ast.ParameterValue(name, span):
            constant = scope.constant(name, span)
            if constant is None or constant[0] is None:
                return None
            number, shown = constant[0], f"`${name}` = {constant[0]}"
        case _:
            pass
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= 1:
        scope.report(
            problems.BadValue(
                span=threshold.span,
                what="`similar`, a cosine similarity,",
                wanted="a number above 0, up to 1",
                found=shown,
            )
        )
        return None
    if path is None:
        return None
    found = types.required(scope.type_of(path))
    if not isinstance(found, types.Vector) and found != types.NULL:
        scope.report(
            problems.WrongType(
                span=column.span,
                what="what is compared by `similar`",
                expected="a vector",
                found=types.name(found),
                advice="`embed` makes one of a text, and SQL of a list of numbers: `numbers::FLOAT[384]`",
            )
        )
        return None
    return typed.Dedup((path,), node.span, float(number))


def _unnest(scope: Scope, node: ast.Step) -> typed.Unnest | None:
    scope.columns_known = False
    lists: list[typed.Elements] = []
    for argument in node.call.arguments:
        found = _list(scope, argument, node)
        if found is None:
            return None
        if any(one.path == found.path for one in lists):
            scope.report(problems.SaidTwice(span=argument.span, word=str(argument.value)))
            return None
        lists.append(found)
    if not lists:
        scope.wrong("unnest", node.call.span)
        return None
    gone = {one.path[0]: one for one in lists if len(one.path) == 1}
    before, scope.columns = scope.columns, {}
    for name, type_ in before.items():  # elements stand where their list stood
        one = gone.get(name)
        scope.columns[one.column if one else name] = one.type if one else type_
    added = {one.column: one.type for one in lists if len(one.path) > 1}
    names = [name.lower() for name in scope.columns]
    names += [one.column.lower() for one in lists if len(one.path) > 1]
    for argument, name in zip(node.call.arguments, (one.column for one in lists), strict=True):
        if names.count(name.lower()) > 1 or len(scope.columns) < len(before):
            owner, place = scope.owner, argument.alias.span if argument.alias else argument.span
            scope.report(
                problems.ColumnTwice(
                    span=place, name=name, owner=owner, advice="name it: `… as name`"
                )
            )
            return None
    scope.columns |= added
    scope.columns_known = True
    return typed.Unnest(tuple(lists), node.span)


def _list(scope: Scope, argument: ast.Argument, node: ast.Step) -> typed.Elements | None:
    """The elements of a column that holds a list."""
    match argument:
        case ast.Argument(None, ast.Path() as value, _, alias):
            path = scope.path(value)
        case ast.Argument(None, ast.String(text), _, ast.Name() as alias) if text.isidentifier():
            scope.wrong("unnest", node.call.span, f"unnest({text} as {alias.text})")
            return None
        case _:
            scope.wrong("unnest", node.call.span)
            return None
    if path is None:
        return None
    found = types.required(scope.type_of(path))
    element = types.element(found)
    if element is None:
        what, shown = "what is unnested", types.name(found)
        scope.report(problems.WrongType(span=value.span, what=what, expected="a list", found=shown))
        return None
    return typed.Elements(path, alias.text if alias else path[-1], element)


def _draw(scope: Scope, node: ast.Step) -> typed.Draw | None:
    scope.columns_known = False
    count = scope.count(node.call, "draw", ("from",))
    if count is None:
        return None
    match node.call.arguments[1:]:
        case (ast.Argument(_, ast.Path() as value),):
            name = str(value)
        case _:
            scope.wrong("draw", node.call.span)
            return None
    if name not in scope.known.tables:
        scope.report(
            problems.UnknownDeclaration(
                span=value.span, kind="table", name=name, known=tuple(scope.known.tables)
            )
        )
        return None
    table = scope.known.tables[name]
    column = node.aliases[0].text if node.aliases else name
    place = node.aliases[0].span if node.aliases else value.span
    if table is None or scope.taken(column, place, "name what is drawn: `as shots`"):
        return None
    scope.columns[column] = types.ListOf(types.Record(table.columns))
    scope.columns_known = True
    return typed.Draw(count, name, column, node.span)


def _whole(scope: Scope, node: ast.SqlStep) -> typed.Whole | None:
    scope.columns_known = False
    fields = tuple(Field(name, type_) for name, type_ in scope.columns.items())
    scope.binder.define(THIS, fields)
    if scope.known.unsound(scope.binder.query_tables(node.text)):
        return None
    tables = {**scope.known.folded, THIS: THIS}
    around = Surroundings("the query", {}, scope.known.parameters, tables)
    bound = scope.binder.query(node.text, around, scope.report)
    if bound is None:
        return None
    if THIS not in bound.tables:
        scope.report(
            problems.BadValue(
                span=node.text.inner,
                what="what SQL in a step reads",
                wanted="`this`, the rows so far",
                found=listed(f"`{name}`" for name in bound.tables) or "nothing",
                advice=f'a query of its own is a table: `table {scope.table} = sql "…"`',
            )
        )
        return None
    scope.columns = {field.name: field.type for field in bound.fields}
    if node.key and not scope.has(node.key, scope.columns):
        return None
    scope.columns_known = True
    scope.absent.clear()
    return typed.Whole(bound, node.key.text if node.key else None, node.span)


def _task(scope: Scope, node: ast.Step, declared: typed.Task) -> typed.TaskStep | None:
    given, given_holds = bind_arguments(scope, node, declared)
    if not given_holds and any(parameter.constant for parameter in declared.parameters):
        scope.columns_known = False  # which columns it makes depends on what does not hold
        return None
    task = declared.with_given(given)
    backend: str | None = None
    sound = check_draws(task, given, node.call.span, scope.report)
    if node.usings and not declared.asks:  # whatever its guards leave of it
        name = node.usings[0]
        advice = "it asks no model: `ask` before a text makes that a prompt"
        scope.report(
            problems.NothingToUse(span=name.span, word="using", callee=task.name, advice=advice)
        )
        sound = False
    elif node.usings or task.needs_backend:
        backend = scope.using(node, "backend", scope.known.backends)
        sound = sound and backend is not None
    made = [(column.name, column.type) for column in task.outputs]
    if task.asks and MODEL_NAME not in (name for name, _ in made):
        made.append((MODEL_NAME, types.Text()))
    alias = node.aliases[0] if node.aliases else None
    owner = f"`{alias.text}`" if alias else scope.owner
    scope.absent |= {(owner, name): ways for name, ways in declared.left_out(given).items()}
    if alias:
        if scope.taken(alias.text, alias.span):
            return None
        fields = tuple(Field(name, type_) for name, type_ in made)
        scope.columns[alias.text] = types.Record(fields)
    else:
        for name, type_ in made:
            if name == MODEL_NAME and name in scope.columns:
                del scope.columns[name]
            elif scope.taken(name, node.call.callee.span, _own_name(name)):
                return None
            scope.columns[name] = type_
    if not sound or not given_holds:
        return None
    return typed.TaskStep(task, given, backend, alias.text if alias else None, node.span)


def _own_name(column: str) -> str:
    return f"give the step's columns a name of their own: `as step2` (then `step2.{column}`)"


_STEPS: Mapping[str, Callable[[Scope, ast.Step], typed.Step | None]] = {
    "where": _where,
    "select": _select,
    "limit": _limit,
    "embed": _embed,
    "unnest": _unnest,
    "dedup": _dedup,
    "draw": _draw,
}
