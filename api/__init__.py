"""synthc from Python: compile a spec, run it, look at the results.

    import synthc

    plan = synthc.compile("quickstart.synth", rows=20)
    results = synthc.run(plan)
    results.sql("SELECT * FROM answers")

What goes wrong is a `CompileError` or a `RunError`, whose text is what the command line says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthc.interface import CompileError, Plan, Results, compile, results, run  # noqa: A004
    from synthc.runtime.errors import RunError

__all__ = ["CompileError", "Plan", "Results", "RunError", "compile", "results", "run"]


def __getattr__(name: str) -> Any:
    # The command imports this package too, and most of it has no use for what stands here.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from synthc import interface

    return getattr(interface, name)


def __dir__() -> list[str]:
    return sorted(__all__)
