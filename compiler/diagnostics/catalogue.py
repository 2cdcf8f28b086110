"""Every problem a spec can have: a class each, with its facts, its prose and its page."""

from __future__ import annotations

from typing import Literal

from synthc.compiler.diagnostics.problem import Problem, listed, nearest
from synthc.compiler.span import Span


def _thing(kind: str) -> str:
    """A kind of declaration as a sentence names one."""
    return {"mutations": "set of mutations", "expect": "expectation"}.get(kind, kind)


# Syntax


class UnexpectedWord(Problem, frozen=True):
    """A word or sign that cannot stand at its place.

    What: the text of the spec cannot be read from here on.
    Why: a piece is missing before it, or something was written as another language writes it.
    Example: `task f { out x = ask "…" }` has no type after `x`.
    Fix: write what the message says was expected.
    """

    code = "S0101"
    found: str
    expected: tuple[str, ...]
    after: str | None = None
    advice: str | None = None

    def message(self) -> str:
        found = "the end of the declaration" if not self.found else f"`{self.found}`"
        after = f" after `{self.after}`" if self.after else ""
        if not self.expected:
            return f"{found} cannot stand here"
        return f"expected {self._wanted()}{after}, found {found}"

    def _wanted(self) -> str:
        *some, last = self.expected
        return f"{listed(some)} or {last}" if some else last

    def label(self) -> str:
        if self.after:
            return f"expected {self._wanted()} after this"
        return f"expected {self.expected[0]}" if len(self.expected) == 1 else "not expected here"

    def help(self) -> str | None:
        return self.advice


class Unclosed(Problem, frozen=True):
    """A string or a block that is opened and never closed.

    What: the closing sign is missing; the place shown is where it was opened.
    Why: everything after it would be read as part of it.
    Example: `task f {` with no `}` before the next declaration.
    Fix: add the closing sign.
    """

    code = "S0102"
    opening: str
    closing: str

    def message(self) -> str:
        what = {"{": "block", "(": "bracket", "[": "bracket"}.get(self.opening, "string")
        return f"this {what} is opened with `{self.opening}` and never closed"

    def label(self) -> str:
        return "opened here"

    def help(self) -> str | None:
        if self.opening == '"':
            return 'close it with `"` on the same line, or use `"""` for several lines'
        return f"add `{self.closing}`"


class BadEscape(Problem, frozen=True):
    r"""A backslash in a string that starts no escape.

    What: in `"…"` only `n`, `t`, `r`, `"`, `/`, a backslash, or `u` and four digits follow a backslash.
    Why: a regular expression or LaTeX written in plain quotes would silently lose its backslashes.
    Example: `where("x ~ '\d+'")`.
    Fix: write the string in triple quotes, where a backslash is itself: `where(\"\"\"x ~ '\d+'\"\"\")`.
    """

    code = "S0103"
    escape: str

    def message(self) -> str:
        return f"`{self.escape}` is no escape"

    def help(self) -> str | None:
        return 'write `\\\\` for a backslash, or use a raw string: `"""…"""`'


class ReservedWord(Problem, frozen=True):
    """A reserved word used as a name.

    What: in, let, out, ask, sample, sql, repeat, next, when, where, as, using and each are reserved.
    Why: a forgotten piece is then reported on its own line and not three lines later.
    Example: `out next: text = …`.
    Fix: choose another name, or put it in backquotes.
    """

    code = "S0105"
    word: str

    def message(self) -> str:
        return f"`{self.word}` is a reserved word"

    def help(self) -> str | None:
        return f"choose another name, or write it in backquotes: `` `{self.word}` ``"


# Names


class UnknownDeclaration(Problem, frozen=True):
    """A table, task, backend or embedder that nobody declares.

    What: the name stands for nothing in this spec.
    Why: it is misspelt, or its declaration is missing.
    Example: `table a = topcs` where the table is called `topics`.
    Fix: use one of the names listed, or declare it.
    """

    code = "S0201"
    kind: str
    name: str
    known: tuple[str, ...]
    advice: str | None = None

    def message(self) -> str:
        return f"there is no {_thing(self.kind)} `{self.name}`"

    def label(self) -> str:
        return (
            f"not among: {listed(self.known)}"
            if self.known
            else f"no {_thing(self.kind)} is declared"
        )

    def meant(self) -> str | None:
        return None if self.advice else nearest(self.name, self.known)

    def help(self) -> str | None:
        return self.advice or super().help()


class DuplicateDeclaration(Problem, frozen=True):
    """Two declarations of one name.

    What: a name stands for one thing only.
    Why: it would be unclear which one is meant.
    Example: two `task answer { … }`.
    Fix: rename one of them.
    """

    code = "S0202"
    kind: str
    name: str
    first: Span
    advice: str | None = None

    def message(self) -> str:
        return f"the {_thing(self.kind)} `{self.name}` is declared twice"

    def label(self) -> str:
        return "declared again"

    def help(self) -> str | None:
        return self.advice

    def other(self) -> tuple[Span, str] | None:
        return self.first, "first declared here"


class UnknownColumn(Problem, frozen=True):
    """A column that is not there.

    What: the name is no column of the table (or of the task) at this point.
    Why: it is misspelt, was not selected, or is only made further down.
    Example: `where("length(instrction) > 10")` on a table with the column `instruction`.
    Fix: use one of the columns listed.
    """

    code = "S0203"
    owner: str
    name: str
    known: tuple[str, ...]
    advice: str | None = None

    def message(self) -> str:
        return f"{self.owner} has no column `{self.name}`"

    def label(self) -> str:
        return f"not among: {listed(self.known)}" if self.known else "there are no columns here"

    def meant(self) -> str | None:
        return None if self.advice else nearest(self.name, self.known)

    def help(self) -> str | None:
        return self.advice or super().help()


class UnknownParameter(Problem, frozen=True):
    """A `$name` that is no parameter.

    What: `$name` stands for a parameter of the spec or of the task it is written in.
    Why: it is misspelt or not declared; a column is written without the `$`.
    Example: `limit($rows)` without `param rows: int = 10`.
    Fix: declare it, or drop the `$` if a column is meant.
    """

    code = "S0204"
    name: str
    known: tuple[str, ...]
    columns: tuple[str, ...] = ()
    advice: str | None = None

    def message(self) -> str:
        return f"there is no parameter `${self.name}`"

    def label(self) -> str:
        return f"not among: {listed('$' + name for name in self.known)}" if self.known else ""

    def meant(self) -> str | None:
        near = nearest(self.name, self.known)
        return f"${near}" if near and not self.advice and self.name not in self.columns else None

    def help(self) -> str | None:
        if self.advice:
            return self.advice
        if self.name in self.columns:
            return f"a column is written without the `$`: `{self.name}`"
        return super().help() or f"declare it: `param {self.name}: … = …`"


class UnknownType(Problem, frozen=True):
    """A word that is no type.

    What: the types are text, int, float, bool, json, chat, image, audio, vector[n], choices, `T[]`,
    `T?` and `{a: T}`; `type` gives one a name.
    Why: it is misspelt, or is how another language calls it.
    Example: `out x: string`.
    Fix: use one of the types listed.
    """

    code = "S0205"
    name: str
    here: str | None
    known: tuple[str, ...]

    def message(self) -> str:
        return f"there is no type `{self.name}`"

    def label(self) -> str:
        return f"not among: {listed(self.known)}"

    def meant(self) -> str | None:
        return self.here or nearest(self.name, self.known)


class UnknownArgument(Problem, frozen=True):
    """An argument that the task or step does not take.

    What: an argument binds a parameter or an input by its name.
    Why: it is misspelt, or belongs to another task.
    Example: `answer(qestion = topic)`.
    Fix: use one of the names listed.
    """

    code = "S0206"
    callee: str
    name: str
    known: tuple[str, ...]
    advice: str | None = None

    def message(self) -> str:
        return f"`{self.callee}` takes no argument `{self.name}`"

    def label(self) -> str:
        return f"not among: {listed(self.known)}" if self.known else "it takes no named arguments"

    def meant(self) -> str | None:
        return None if self.advice else nearest(self.name, self.known)

    def help(self) -> str | None:
        return self.advice or super().help()


class Cycle(Problem, frozen=True):
    """Tables (or tasks, sets, types, files) that need each other.

    What: following what each needs leads back to the start.
    Why: none of them could ever be made first.
    Example: `table a = b` and `table b = a`.
    Fix: break the circle.
    """

    code = "S0207"
    kind: str
    names: tuple[str, ...]

    def message(self) -> str:
        if len(self.names) == 1:
            return f"`{self.names[0]}` needs itself"
        circle = " → ".join(f"`{name}`" for name in (*self.names, self.names[0]))
        return f"these {self.kind} need each other: {circle}"

    def help(self) -> str | None:
        if self.kind == "tables" and len(self.names) == 1:
            return 'in the SQL of a step the rows so far are `this`: `|> sql "SELECT … FROM this"`'
        return None


class UnknownSetting(Problem, frozen=True):
    """A setting that a backend or an embedder does not have.

    What: each kind of block has a fixed set of settings.
    Why: it is misspelt, or belongs in `extra { }`.
    Example: `temprature = 0.7`.
    Fix: use one of the settings listed; what a server takes beyond them goes into `extra { }`.
    """

    code = "S0208"
    block: str
    name: str
    known: tuple[str, ...]
    advice: str | None = None

    def message(self) -> str:
        return f"{self.block} has no setting `{self.name}`"

    def label(self) -> str:
        return f"not among: {listed(self.known, 30)}"

    def meant(self) -> str | None:
        return None if self.advice else nearest(self.name, self.known)

    def help(self) -> str | None:
        return self.advice or super().help()


class UsingMissing(Problem, frozen=True):
    """An ask or an embedding that does not say which model is meant.

    What: `using` may be left out only where exactly one backend (or embedder) is declared.
    Why: with several it would be a guess, and guesses cost money.
    Example: `|> answer` in a spec with the backends `small` and `large`.
    Fix: add `using small`.
    """

    code = "S0209"
    kind: str
    known: tuple[str, ...]

    def message(self) -> str:
        if not self.known:
            return f"this needs a {self.kind}, and none is declared".replace("a emb", "an emb")
        return f"which {self.kind}? {len(self.known)} are declared: {listed(self.known)}"

    def help(self) -> str | None:
        if not self.known:
            if self.kind == "embedder":
                return "declare one: `embedder minilm { model = … dimensions = … }`"
            return "declare one: `backend small { model = … }`"
        return f"add `using {self.known[0]}`"


class ExtendsAlias(Problem, frozen=True):
    """A task that extends one that is another task with arguments filled in.

    What: `task a = b(…)` has no inputs, prompts or columns of its own that could be replaced.
    Why: they are those of `b`, and the arguments belong to a call of it.
    Example: `task mine extends evol.complexity { … }`.
    Fix: extend the task behind it, and give the argument as the default of a parameter.
    """

    code = "S0210"
    name: str
    callee: str

    def message(self) -> str:
        return f"`{self.name}` is `{self.callee}` with arguments filled in, and cannot be extended"

    def label(self) -> str:
        return "has no parts of its own"

    def help(self) -> str | None:
        return (
            f"extend `{self.callee}`; a parameter that is declared again has the new default: "
            f"`task name(parameter: type = …) extends {self.callee} {{ … }}`"
        )


# Types and values


class MissingArgument(Problem, frozen=True):
    """An input or parameter that nothing binds.

    What: an input takes the column of its own name unless an argument binds it; a parameter without
    a default must be given.
    Why: the task cannot run without it.
    Example: `|> answer` where the table has no column `question`.
    Fix: bind it: `answer(question = topic)`.
    """

    code = "S0301"
    task: str
    name: str
    kind: Literal["input", "parameter"]
    columns: tuple[str, ...]
    advice: str | None = None

    def message(self) -> str:
        if self.kind == "parameter":
            return f"`{self.task}` needs a value for its parameter `{self.name}`"
        return f"nothing binds the input `{self.name}` of `{self.task}`"

    def label(self) -> str:
        if self.kind == "parameter":
            return ""
        if not self.columns:
            return "" if self.advice else "there are no columns here"
        return f"the columns here are: {listed(self.columns)}"

    def help(self) -> str | None:
        near = nearest(self.name, self.columns) or (
            self.columns[0] if len(self.columns) == 1 else "…"
        )
        value = "…" if self.kind == "parameter" else near
        return self.advice or f"bind it: `{self.task}({self.name} = {value})`"


class WrongType(Problem, frozen=True):
    """A value or column of another type than is wanted.

    What: the type that is there cannot be taken for the type that is declared.
    Why: rows would fail one by one, after money was spent.
    Example: a DATE column bound to `in day: text`.
    Fix: declare the type that it has, or convert it in SQL: `select("*, day::VARCHAR AS day_text")`.
    """

    code = "S0302"
    what: str
    expected: str
    found: str
    advice: str | None = None

    def message(self) -> str:
        wanted = self.expected if self.expected.startswith("a ") else f"`{self.expected}`"
        return f"{self.what} must be {wanted}, and this is `{self.found}`"

    def label(self) -> str:
        return f"this is `{self.found}`"

    def help(self) -> str | None:
        return self.advice


class ColumnTwice(Problem, frozen=True):
    """A column that is made twice.

    What: every column of a task or a table has one maker.
    Why: the second would silently replace the first.
    Example: `|> answer |> answer`.
    Fix: rename it, or give the step a name of its own: `|> answer as second`.
    """

    code = "S0303"
    name: str
    owner: str
    first: Span | None = None
    advice: str = "choose another name"

    def message(self) -> str:
        return f"{self.owner} has a column `{self.name}` already"

    def other(self) -> tuple[Span, str] | None:
        return (self.first, "first made here") if self.first else None

    def help(self) -> str | None:
        return self.advice


class ContractCannotFill(Problem, frozen=True):
    """A contract that cannot fill the columns it stands for.

    What: `text`, `after` and `tag` give one column of type text; `sections` and `regex` give texts,
    numbers, truths and choices, `lines` lists of them; `json` gives any.
    Why: the answer would never fit, whatever the model says.
    Example: `out (a: text, b: int) = ask "…" as text`.
    Fix: leave `as` out (the types choose), or change the types.
    """

    code = "S0304"
    contract: str
    types: tuple[str, ...]
    picture: bool = False
    """Whether one of the columns would be a picture, or hold one."""

    def message(self) -> str:
        if self.contract in ("text", "after", "tag") and len(self.types) > 1:
            return (
                f"an answer as `{self.contract}` fills one column, and these are {len(self.types)}"
            )
        return f"an answer as `{self.contract}` cannot fill {listed(f'`{t}`' for t in self.types)}"

    def help(self) -> str | None:
        match self.contract:
            case _ if self.picture:
                return "a model answers in text: let it say what the picture should show"
            case "json":
                return "declare a type that JSON has, such as `float[]` for a list of numbers"
            case "lines":
                return "each line gives one element: declare lists, such as `float[]`"
            case "sections" | "regex":
                return f"`{self.contract}` gives texts, numbers, truths and choices, one each"
            case kind:
                return f"leave out `as {kind}`: JSON is asked for, and gives columns of any type"


class ParameterSharesName(Problem, frozen=True):
    """A parameter of a task with the name of one of its columns.

    What: a template sees columns and parameters alike.
    Why: `{{ name }}` would be ambiguous.
    Example: `task f(topic: text) { in topic: text … }`.
    Fix: rename one of them.
    """

    code = "S0305"
    name: str
    column: Span

    def message(self) -> str:
        return f"the parameter `{self.name}` shares its name with a column of the task"

    def other(self) -> tuple[Span, str] | None:
        return self.column, "the column"


class BadValue(Problem, frozen=True):
    """A value that a setting, a parameter or a step cannot take.

    What: the value has the wrong kind or lies outside the range.
    Why: the run would fail later, or do something else than is meant.
    Example: `temperature = "hot"`, `limit(-1)`.
    Fix: write a value as the message says.
    """

    code = "S0306"
    what: str
    wanted: str
    found: str
    near: str | None = None
    advice: str | None = None

    def message(self) -> str:
        return f"{self.what} must be {self.wanted}, and this is {self.found}"

    def meant(self) -> str | None:
        return self.near

    def help(self) -> str | None:
        return super().help() or self.advice


class MissingSetting(Problem, frozen=True):
    """A setting without which a backend or an embedder cannot be.

    What: a backend needs `model`; an embedder needs `model` and `dimensions`.
    Why: the compiler loads no model, so it cannot find out for itself.
    Example: `embedder e { model = "…" }`.
    Fix: add the setting.
    """

    code = "S0307"
    block: str
    name: str

    def message(self) -> str:
        return f"{self.block} needs the setting `{self.name}`"

    def help(self) -> str | None:
        value = "384" if self.name == "dimensions" else '"…"'
        return f"add it: `{self.name} = {value}`"


class ParameterWithoutValue(Problem, frozen=True):
    """A parameter of the spec that has no default and was given no value.

    What: `param name: type` without `= value` must be given when compiling.
    Why: there is nothing to put in its place.
    Example: `param language: text`, then `synthc compile`.
    Fix: `synthc compile -p language=French`, or give it a default.
    """

    code = "S0308"
    name: str

    def message(self) -> str:
        return f"the parameter `{self.name}` has no value"

    def help(self) -> str | None:
        return f"give it one: `-p {self.name}=…`, or a default in the spec"


class WrongCall(Problem, frozen=True):
    """A source or step that was called in a way it cannot be.

    What: each takes a fixed form, which the message shows.
    Why: another form says nothing that could be run.
    Example: `where(x > 3)` without quotes; `rows()`.
    Fix: write it as shown.
    """

    code = "S0309"
    callee: str
    form: str
    names: tuple[str, ...] = ()
    advice: str | None = None

    def message(self) -> str:
        return f"`{self.callee}` is not used like this"

    def label(self) -> str:
        return f"for which of these: {listed(self.names)}" if self.names else ""

    def help(self) -> str | None:
        return f"write `{self.form}`{self.advice or ''}"


class SaidTwice(Problem, frozen=True):
    """A part of a step or an ask that is said twice.

    What: `using`, `as`, `system`, `where`, `each` and `n` stand once, a value is drawn from once.
    Why: it would be unclear which one counts.
    Example: `|> answer using small using large`.
    Fix: remove one.
    """

    code = "S0310"
    word: str

    def message(self) -> str:
        return f"`{self.word}` is said twice"


class NoOutput(Problem, frozen=True):
    """A task that makes no column.

    What: a task has at least one `out`; `in` and `let` stay inside of it.
    Why: a step of it would change nothing.
    Example: `task f { in topic: text }`.
    Fix: add an `out`, or make the last `let` an `out`.
    """

    code = "S0312"
    task: str

    def message(self) -> str:
        return f"the task `{self.task}` has no `out`, so it makes no column"

    def help(self) -> str | None:
        return 'add one: `out answer: text = ask "…"`'


class NothingToUse(Problem, frozen=True):
    """A `using` or `as` on a step that has no use for it.

    What: `using` names the backend of a task's asks or the embedder of `embed`; `as` names what a task
    or `embed` adds.
    Why: it would have no effect.
    Example: `|> limit(10) using small`.
    Fix: remove it.
    """

    code = "S0311"
    word: str
    callee: str
    advice: str | None = None

    def message(self) -> str:
        return f"`{self.callee}` has no use for `{self.word}`"

    def help(self) -> str | None:
        return self.advice


class NoColumns(Problem, frozen=True):
    """A table without a column.

    What: a table is stored with its columns, and this one has none.
    Why: `rows(n)` brings rows and no columns; something has to make them.
    Example: `table seeds = rows(10)`.
    Fix: add a step that makes columns: `rows(10) |> propose`.
    """

    code = "S0313"
    name: str

    def message(self) -> str:
        return f"the table `{self.name}` has no columns to store"

    def help(self) -> str | None:
        return f"add a step that makes some: `table {self.name} = … |> task`"


class GuardWithoutParameter(Problem, frozen=True):
    """A guard that asks for something that is no parameter of the task.

    What: `when` is followed by a name that the task has no parameter of.
    Why: which columns a task has must be known before a row is read, so that they can be checked.
    Example: `out answer: text = ask "…" when score` where `score` is a column.
    Fix: make it a parameter; to leave out rows by a column, write `where "score > 5"` after the `ask`.
    """

    code = "S0314"
    name: str
    known: tuple[str, ...]
    column: bool

    def message(self) -> str:
        if self.column:
            return f"a guard asks for a parameter, and `{self.name}` is a column"
        return f"the task has no parameter `{self.name}`"

    def label(self) -> str:
        return f"parameters: {listed(self.known)}" if self.known else "it has no parameters"

    def meant(self) -> str | None:
        return None if self.column else nearest(self.name, self.known)

    def help(self) -> str | None:
        if self.column:
            return 'to ask for some rows only, write `where "…"` after the `ask`'
        return super().help()


class GuardedOff(Problem, frozen=True):
    """A column that does not exist for all values of the parameters.

    What: what is read here is only made under a guard, and nothing says that the guard holds.
    Why: with other arguments there would be nothing to read.
    Example: `out answer: text = ask "{{ hint }}"` where `hint` is declared `when careful`.
    Fix: give what reads it the same guard, or call the task with the argument that makes the column.
    """

    code = "S0315"
    name: str
    guards: tuple[str, ...]
    given: tuple[str, ...] = ()
    """How a call would say so, where it is one that leaves the column out: `p = true`."""

    def message(self) -> str:
        return f"`{self.name}` exists only {' or '.join(f'`{guard}`' for guard in self.guards)}"

    def label(self) -> str:
        return "left out by the arguments above" if self.given else "not there in every case"

    def help(self) -> str | None:
        if self.given:
            return f"give the task `{', '.join(self.given)}`"
        if len(self.guards) == 1:
            return f"what reads it needs that too: `{self.guards[0]}`"
        return "what reads it needs one of these guards too, or make it in the other cases"


class EmptySet(Problem, frozen=True):
    """A set of mutations without prompts.

    What: nothing could be drawn from it.
    Why: a set is there to be drawn from.
    Example: `mutations none { in current: text }`.
    Fix: give it a prompt, `name "…"`, or let it extend another set.
    """

    code = "S0316"
    name: str

    def message(self) -> str:
        return f"the set `{self.name}` has no prompts"

    def label(self) -> str:
        return "nothing to draw"

    def help(self) -> str | None:
        return 'a prompt has a name and a text: `shorter "Shorten this: {{ text }}"`'


class SetCannotSee(Problem, frozen=True):
    """A set of mutations whose prompts see a column that is not there.

    What: the set declares a column with `in` that the task does not have where it asks, or not of
    that type.
    Why: its prompts could not be filled.
    Example: a set with `in title: text` given to a task that has no `title`.
    Fix: use another set, or one that extends it with prompts that need less.
    """

    code = "S0317"
    set: str
    column: str
    type: str
    known: tuple[str, ...]
    found: str | None = None
    """The type that the column has here, where there is one of that name."""

    def message(self) -> str:
        return f"the set `{self.set}` needs the column `{self.column}: {self.type}`"

    def label(self) -> str:
        if self.found:
            return f"here `{self.column}` is `{self.found}`"
        return f"here it would see: {listed(self.known)}" if self.known else "there is no column"

    def help(self) -> str | None:
        if self.found == f"{self.type}?":
            return (
                f"let its prompts ask: `in {self.column}: {self.found}`, `{{% if {self.column} %}}`"
            )
        near = None if self.found else nearest(self.column, self.known)
        return f"did you mean `{near}`?" if near else None


class MissingMark(Problem, frozen=True):
    """A contract that does not say where some of its columns stand in the answer.

    What: a column of the `ask` has no heading, or no group of the pattern.
    Why: nothing would ever fill it.
    Example: `out (good: text, bad: text) = ask "…" as sections(good = "## Good")`.
    Fix: name the missing heading, or write a group with the column's name: `(?P<bad>.+)`.
    """

    code = "S0318"
    contract: str
    columns: tuple[str, ...]
    groups: tuple[str, ...]
    only: bool = False
    """Whether there is no other column."""

    def message(self) -> str:
        what = "heading" if self.contract == "sections" else "group"
        return f"no {what} for {listed(tuple(f'`{name}`' for name in self.columns))}"

    def label(self) -> str:
        if self.contract == "sections":
            return "each column needs a heading"
        return f"its groups: {listed(self.groups)}" if self.groups else "it has no named groups"

    def help(self) -> str | None:
        name = self.columns[0]
        if self.contract == "sections":
            return f'add it: `{name} = "## {name.replace("_", " ").capitalize()}"`'
        alone = ", or the pattern has one group, `(…)`" if self.only else ""
        return f"a group has the column's name: `(?P<{name}>…)`{alone}"


class BadPattern(Problem, frozen=True):
    """A pattern that cannot be read.

    What: the text between the slashes is no regular expression of RE2.
    Why: answers are read in linear time, whatever a model writes: RE2 has no look-around and no
    back-references.
    Example: `as regex(/(?<=score: )\\d+/)`.
    Fix: write the pattern without them; a group takes out the part that is wanted.
    """

    code = "S0319"
    reason: str

    def message(self) -> str:
        return "this pattern cannot be read"

    def label(self) -> str:
        return self.reason

    def help(self) -> str | None:
        if not self.reason.startswith("RE2"):
            return None
        return "patterns are those of RE2: no look-around, no back-references"


class NotConstant(Problem, frozen=True):
    """A column, or a draw, where a value must be known before the run.

    What: the parameter decides which columns there are, how often something is done or who is asked.
    Why: that is checked and planned before any row is read.
    Example: `evol.instruct(num_evolutions = n)` where `n` is a column.
    Fix: give a literal or a `$parameter` of the spec.
    """

    code = "S0320"
    what: str
    advice: str = "give a literal, or a parameter of the spec: `$name`"

    def message(self) -> str:
        return f"{self.what} must be known before the run"

    def label(self) -> str:
        return "differs from row to row"

    def help(self) -> str | None:
        return self.advice


class NullableList(Problem, frozen=True):
    """A list that may be null, where something is asked for each of its elements.

    What: `each … in` and `per` go through a list; a `T[]?` may be no list at all.
    Why: what is asked of a row without a list must be said, else it fails when its turn comes.
    Example: `in sources: text[]?` and `ask "…" each source in sources`.
    Fix: declare it `text[]` (rows without a list then stop), make it empty, or ask `where` it is there.
    """

    code = "S0321"
    name: str
    type: str

    def message(self) -> str:
        return f"`{self.name}` can be null, and is gone through without asking"

    def label(self) -> str:
        return f"this is `{self.type}`"

    def help(self) -> str | None:
        bare = self.name.removeprefix("$")
        return (
            f'add `where "{self.name} IS NOT NULL"`, or go through a list that is always there: '
            f'`let some_{bare}: {self.type.removesuffix("?")} = sql "coalesce({self.name}, [])"`'
        )


class IndexWithoutList(Problem, frozen=True):
    """A group `index` in a pattern of `lines` that belongs to no list.

    What: the group `index` says which element of a list a line is about; `per` names that list.
    Why: without a list nothing would read the number.
    Example: `as lines(/(?P<index>\\d+): (?P<score>\\d+)/)`.
    Fix: add `per items` after the brackets, or give the group another name.
    """

    code = "S0322"

    def message(self) -> str:
        return (
            "the group `index` says which element of a list a line is about, and no list is named"
        )

    def label(self) -> str:
        return "nothing reads it"

    def help(self) -> str | None:
        return "name the list: `as lines(/…/) per items`; or leave the group's name out: `(?:…)`"


class MissingReply(Problem, frozen=True):
    """A test that expects what a model would say, and does not say it.

    What: a test asks no model; what one would answer stands in `reply`, after a column of its `ask`.
    Why: without it the row fails, and so does the test.
    Example: `given question = "Why?"  expect answer = "Because."` without a `reply`.
    Fix: add the line that the message shows.
    """

    code = "S0323"
    name: str
    asked: str
    reply: str

    def message(self) -> str:
        return f"`{self.name}` is asked for, and the test has no reply to it"

    def label(self) -> str:
        return "a model would say it"

    def help(self) -> str | None:
        return f"add the line `reply {self.asked} = {self.reply}`"


# Templates


class TemplateSyntax(Problem, frozen=True):
    """A template that Jinja cannot read.

    What: `{{ … }}` prints, `{% … %}` is a statement, `{# … #}` a comment; each must be closed.
    Why: the prompt could not be made.
    Example: `"{{ question }"`.
    Fix: close it; a brace that is meant as text is written `{{ "{" }}`.
    """

    code = "S0401"
    reason: str
    advice: str | None = None

    def message(self) -> str:
        return f"this template cannot be read: {self.reason}"

    def help(self) -> str | None:
        return self.advice


class UnknownTemplateName(Problem, frozen=True):
    """A name in a template that is neither a column nor a parameter.

    What: a template sees the task's inputs, the columns it made so far, and parameters.
    Why: the prompt would have a hole.
    Example: `"{{ instrction }}"`.
    Fix: use one of the names listed, or declare it with `in`.
    """

    code = "S0402"
    name: str
    known: tuple[str, ...]
    further_down: bool = False
    advice: str | None = None

    def message(self) -> str:
        return f"the template has no `{self.name}` to print"

    def label(self) -> str:
        return f"not among: {listed(self.known)}" if self.known else "nothing can be printed here"

    def meant(self) -> str | None:
        told = self.advice or self.further_down
        return None if told else nearest(self.name, self.known)

    def help(self) -> str | None:
        if self.advice:
            return self.advice
        if self.further_down:
            return f"`{self.name}` is made further down: move its `out` or `let` above this one"
        return (
            super().help() or f"if it is a column of the table, declare it: `in {self.name}: text`"
        )


class NullablePrinted(Problem, frozen=True):
    """A column that can be null, printed as if it never were.

    What: a `T?` in a template must stand inside `{% if x %}` or have a `default`.
    Why: the prompt would say "None".
    Example: `"{{ hint }}"` where `hint: text?`.
    Fix: `{% if hint %}{{ hint }}{% endif %}` or `{{ hint | default("none") }}`.
    """

    code = "S0403"
    name: str

    def message(self) -> str:
        return f"`{self.name}` can be null, and is printed without asking"

    def label(self) -> str:
        return "may be null"

    def help(self) -> str | None:
        return (
            f"write `{{% if {self.name} %}}…{{% endif %}}` around it, "
            f'or `{{{{ {self.name} | default("…") }}}}`'
        )


class UnsafeTemplate(Problem, frozen=True):
    """Something a template may not do.

    What: names that start with `_`, other files, and the filters `random` and `attr` are out of reach.
    Why: a template runs in a sandbox: it turns columns into text, the same text each time.
    Example: `{{ x.__class__ }}`, `{% include "secrets.txt" %}`.
    Fix: remove it.
    """

    code = "S0404"
    what: str

    def message(self) -> str:
        return f"a template may not use {self.what}"

    def help(self) -> str | None:
        return 'a prompt of a file is `ask file("…")`' if self.what == "other files" else None


class UnknownFilter(Problem, frozen=True):
    """A filter or test that templates do not have.

    What: the filters and tests are Jinja's own.
    Why: the prompt could not be made.
    Example: `{{ x | uper }}`.
    Fix: use the one that was meant.
    """

    code = "S0405"
    kind: str
    name: str
    known: tuple[str, ...]

    def message(self) -> str:
        return f"templates have no {self.kind} `{self.name}`"

    def meant(self) -> str | None:
        return nearest(self.name, self.known)


class NoOutputFormat(Problem, frozen=True):
    """`{{ output_format }}` where there is no format to print.

    What: `output_format` says what JSON is wanted; an answer that is plain text has no format.
    Why: the prompt would have a hole.
    Example: `out x: text = ask "… {{ output_format }}"`.
    Fix: remove it, or ask for more than one column.
    """

    code = "S0406"

    def message(self) -> str:
        return "there is no output format here: the answer is taken as plain text"

    def help(self) -> str | None:
        return "remove it, or let the answer be JSON: `as json`"


class NoParts(Problem, frozen=True):
    """A part of something that has no parts, in a template.

    What: only a record has parts that stand after a `.`; text, numbers and lists have none.
    Why: the prompt would have a hole.
    Example: `{{ topic.name }}` where `in topic: text`.
    Fix: print it whole, or declare the record that it is: `in topic: {name: text}`.
    """

    code = "S0407"
    owner: str
    name: str
    found: str
    advice: str

    def message(self) -> str:
        return f"`{self.owner}` is {self.found}, and has no part `{self.name}`"

    def label(self) -> str:
        return "no such part"

    def help(self) -> str | None:
        return self.advice


class PictureMisused(Problem, frozen=True):
    """A picture in a template where it cannot be one.

    What: an `image` is sent as it is where the prompt of an `ask` prints it: `{{ photo }}`. A filter, a
    comparison, a macro, a system message or a column's text would have to make text of it.
    Why: the model would read the name of a file, and see no picture.
    Example: `{{ photo | upper }}`, `{% if photo == "a.jpg" %}`, `system "You see {{ photo }}"`.
    Fix: print it by itself, in the prompt; the name of its file is the column `path` of `files(…)`.
    """

    code = "S0408"
    name: str
    where: str | None = None
    """What it stands in, where that is what is wrong: `a system message`."""
    several: str | None = None
    """How the pictures are printed that it holds."""

    def message(self) -> str:
        if self.several:
            return f"`{self.name}` holds pictures, which are printed one by one"
        if self.where:
            return f"`{self.name}` is a picture, and only text can stand in {self.where}"
        return f"`{self.name}` is a picture: it can be printed, and nothing else"

    def label(self) -> str:
        return "holds pictures" if self.several else "a picture"

    def help(self) -> str | None:
        if self.several:
            return f"write `{self.several}`"
        if self.where:
            return f"print it in the prompt of an `ask`, by itself: `{{{{ {self.name} }}}}`"
        return (
            f"write `{{{{ {self.name} }}}}` where it is to stand, and `{{% if {self.name} %}}` to ask "
            "whether it is there"
        )


# SQL


class SqlSyntax(Problem, frozen=True):
    """SQL that DuckDB cannot read.

    What: the text between the quotes is not SQL of the kind wanted here.
    Why: a sign or a word is missing, or there is one too many.
    Example: `where("length(x >")`.
    Fix: `where` takes a condition, `select` a list of columns, `sql` an expression or a whole query.
    """

    code = "S0501"
    reason: str
    wanted: str
    advice: str | None = None

    def message(self) -> str:
        return f"this is no SQL {self.wanted}: {self.reason}"

    def help(self) -> str | None:
        return self.advice


class UnknownFunction(Problem, frozen=True):
    """A function that DuckDB does not have.

    What: the name is none of DuckDB's functions.
    Why: it is misspelt, or another database calls it so.
    Example: `lenght(x)`.
    Fix: use DuckDB's name.
    """

    code = "S0502"
    name: str
    near: str | None

    def message(self) -> str:
        return f"SQL has no function `{self.name}`"

    def meant(self) -> str | None:
        return self.near


class SqlDoesNotFit(Problem, frozen=True):
    """SQL whose types or names do not fit together.

    What: DuckDB read the SQL but cannot make sense of it over these columns.
    Why: most often a comparison or a function over a column of another type.
    Example: `where("question > 3")` over a text column.
    Fix: convert (`x::INTEGER`), or use the column that was meant.
    """

    code = "S0503"
    reason: str
    advice: str | None = None

    def message(self) -> str:
        return f"this SQL does not fit its columns: {self.reason}"

    def help(self) -> str | None:
        return self.advice


class VolatileSql(Problem, frozen=True):
    """A SQL function whose result differs from one run to the next.

    What: `random()`, `uuid()`, `now()` and their like are refused.
    Why: a run could not be repeated or continued; its rows would change under it.
    Example: `select("*, random() AS r")`.
    Fix: derive the value from a column, such as `hash(id)`.
    """

    code = "S0504"
    name: str

    def message(self) -> str:
        return f"`{self.name}` gives another value each time, so the run could not be repeated"

    def help(self) -> str | None:
        if any(
            word in self.name.lower() for word in ("now", "current", "date", "day", "time", "ago")
        ):
            return 'give it as a parameter: `param today: text = "…"`, and `$today` in the SQL'
        return "derive it from a column instead, for example `hash(id)`"


class NotRowWise(Problem, frozen=True):
    """SQL that looks at more than one row where one row is at hand.

    What: `where`, `select` and a task's `sql` see one row: no subquery, aggregate or window.
    Why: rows stream; waiting for the whole table must be visible in the spec.
    Example: `where("score > (SELECT avg(score) FROM t)")`.
    Fix: make a table of its own: `table best = sql "SELECT … FROM t"`.
    """

    code = "S0505"
    what: str
    makes: bool = False

    def message(self) -> str:
        if self.makes:
            return f"{self.what} makes several rows of one, and here one row stays one"
        return f"{self.what} looks at more than one row, and here is only one"

    def help(self) -> str | None:
        return 'make a table of it: `table t = sql """SELECT … FROM …"""`'


DECLARE_THE_FILE = 'declare the file, `table t = read("file.csv")`, and read the table'


class ForbiddenSql(Problem, frozen=True):
    """SQL that reaches for more than the tables of the spec.

    What: a spec's SQL is one SELECT over the spec's tables; files are read with `read("…")`.
    Why: a spec from somebody else must not be able to read or write your disk.
    Example: `sql "FROM read_csv('/etc/passwd')"`.
    Fix: declare the file: `table seeds = read("seeds.csv")`.
    """

    code = "S0506"
    what: str
    advice: str = DECLARE_THE_FILE

    def message(self) -> str:
        return f"a spec's SQL may not {self.what}"

    def help(self) -> str | None:
        return self.advice


class UnnamedColumn(Problem, frozen=True):
    """A column made by SQL that has no name.

    What: an expression in a `select` or a query needs `AS name`.
    Why: it becomes a column that others must be able to name.
    Example: `select("length(question)")`.
    Fix: `select("length(question) AS size")`.
    """

    code = "S0507"
    expression: str

    def message(self) -> str:
        return f"the column `{self.expression}` has no name of its own"

    def help(self) -> str | None:
        return f"name it: `{self.expression} AS …`"


# Files


class FileNotFound(Problem, frozen=True):
    """A file that is not there.

    What: paths are relative to the folder of the spec.
    Why: it is misspelt, or lies elsewhere.
    Example: `read("topic.jsonl")` where the file is called `topics.jsonl`.
    Fix: correct the path.
    """

    code = "S0601"
    path: str
    near: str | None
    known: tuple[str, ...] = ()
    advice: str | None = None

    def message(self) -> str:
        if "*" in self.path:
            return f"no file is called like `{self.path}`"
        return f"there is no file `{self.path}`"

    def label(self) -> str:
        if self.known:
            return f"not among: {listed(self.known, 20)}"
        return "relative to the folder of the spec"

    def meant(self) -> str | None:
        return None if self.advice else self.near

    def help(self) -> str | None:
        return self.advice or super().help()


class DatasetNotFetched(Problem, frozen=True):
    """A dataset of the Hugging Face Hub that is not on this machine.

    What: `read("hf:datasets/…", split = …)` reads a copy of the dataset that `synthc data fetch` makes.
    Why: compiling fetches nothing, and must know the columns; a run reads the same rows each time.
    Example: `read("hf:datasets/org/questions", split = "train")` before it was fetched.
    Fix: run the command of the help line, once.
    """

    code = "S0606"
    path: str
    fetch: str

    def message(self) -> str:
        return f"the dataset `{self.path}` is not on this machine yet"

    def help(self) -> str:
        return f"fetch it: {self.fetch}"


class FileUnreadable(Problem, frozen=True):
    """A file that cannot be read as what its name says.

    What: the file is there, but could not be read.
    Why: it is malformed, empty, or of another kind than its ending says.
    Example: `read("rows.jsonl")` where line 7 is cut off.
    Fix: mend the file at the place the message gives.
    """

    code = "S0602"
    path: str
    reason: str

    def message(self) -> str:
        return f"`{self.path}` cannot be read: {self.reason}"


class UnknownFormat(Problem, frozen=True):
    """A file whose ending names no format that is known.

    What: the ending of a file says how it is read or written.
    Why: guessing would read the wrong thing.
    Example: `read("seeds.xlsx")`.
    Fix: convert it to one of the formats listed.
    """

    code = "S0603"
    path: str
    known: tuple[str, ...]

    def message(self) -> str:
        return f"the ending of `{self.path}` names no known format"

    def help(self) -> str | None:
        return f"use one of {listed(self.known)}"


class ParameterInUsedFile(Problem, frozen=True):
    """A file with a `param` of its own, used by another.

    What: `param` belongs to the spec that is run: `-p name=value` gives it its value.
    Why: nobody could give a value to the `param` of a file that is used.
    Example: `use "lib"` where `lib.synth` has `param rounds: int = 2`.
    Fix: make it a parameter of the task that needs it: `task refine(rounds: int = 2) { … }`.
    """

    code = "S0604"
    path: str
    name: str
    declared: Span

    def message(self) -> str:
        return f"`{self.path}` has a `param {self.name}`, and a file that is used cannot have one"

    def other(self) -> tuple[Span, str] | None:
        return self.declared, "declared here"

    def help(self) -> str | None:
        return f"make it a parameter of the tasks that need it: `task name({self.name}: …) {{ … }}`"


class NoNamespace(Problem, frozen=True):
    """A file that is used and whose name is no name in a spec.

    What: what a file declares is named after it: `use "std/evol"` gives `evol.instruct`.
    Why: a hyphen, a space or a reserved word cannot stand in a name.
    Example: `use "my-tasks"`.
    Fix: give it a name: `use "my-tasks" as mine`.
    """

    code = "S0605"
    path: str
    stem: str

    def message(self) -> str:
        return f"`{self.stem}` is no name, and what a file declares is named after it"

    def help(self) -> str | None:
        words = "".join(c if c.isalnum() else "_" for c in self.stem).strip("_")
        name = words if words.isidentifier() and words != self.stem else "mine"
        return f'give it one: `use "{self.path}" as {name}`'


# Warnings


class GraphDoesNotFit(Problem, frozen=True):
    """A graph of one's own that an embedder cannot use as it says.

    What: an ONNX graph has inputs and outputs with names, types and shapes, and one of them does not fit
    what the embedder says.
    Why: a run would fail at the first row.
    Example: `output_name = "code"`, where the graph has an output `latent`.
    Fix: choose among the names that are listed, or export the graph with a vector for each row.
    """

    code = "S0607"
    path: str
    reason: str
    advice: str | None = None

    def message(self) -> str:
        return f"the graph `{self.path}` {self.reason}"

    def help(self) -> str | None:
        return self.advice


class Unused(Problem, frozen=True):
    """Something that is declared and never used.

    What: nothing in the spec needs it.
    Why: often it is a slip: the wrong name was used elsewhere.
    Example: a task's `in hint: text` that its prompts never show.
    Fix: use it or remove it.
    """

    code = "S0901"
    severity = "warning"
    kind: str
    name: str
    advice: str | None = None

    def message(self) -> str:
        return f"the {_thing(self.kind)} `{self.name}` is never used"

    def help(self) -> str | None:
        return self.advice


class QuotedColumn(Problem, frozen=True):
    """Text that is given to a task, and is the name of a column.

    What: `"answer"` is the text that it says, the same for every row; `answer` is the column.
    Why: the prompts would hold the column's name instead of what stands in it.
    Example: `|> compare(x = "a.answer")`.
    Fix: leave the quotes out; if the text is meant, nothing is wrong.
    """

    code = "S0902"
    severity = "warning"
    name: str

    def message(self) -> str:
        return f'"{self.name}" is given as text, and there is a column of that name'

    def label(self) -> str:
        return "the same text for every row"

    def help(self) -> str | None:
        return f"the column is written without quotes: `{self.name}`"


def catalogue() -> dict[str, type[Problem]]:
    """Every problem by its code."""
    return {problem.code: problem for problem in Problem.__subclasses__()}
