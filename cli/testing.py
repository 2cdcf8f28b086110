"""`synthc test`: the tests of specs, without a model."""

from __future__ import annotations

from pathlib import Path

import click

from synthc.cli.compiling import (
    json_option,
    parameter_option,
    print_json,
    seed_option,
    sound,
    spec_path,
)
from synthc.cli.console import Failure, say, style, visible


@click.command()
@click.argument("specs", nargs=-1, type=click.Path(path_type=Path))
@parameter_option
@seed_option
@json_option
def test(
    specs: tuple[Path, ...], parameters: tuple[str, ...], seed: int | None, as_json: bool
) -> None:
    """Run the tests of specs with their canned replies: no model is asked."""
    from synthc.runtime.testing import run_test

    paths = [spec_path(spec) for spec in specs or (None,)]
    outcomes = [
        run_test(test, path.parent)
        for path in paths
        for test in sound(path, parameters, seed, as_json)[1].tests
    ]
    failed = [outcome for outcome in outcomes if outcome.faults]
    if as_json:
        print_json(
            {
                "ok": not failed,
                "tests": [
                    {
                        "title": outcome.test.title,
                        "place": str(outcome.test.span),
                        "faults": list(outcome.faults),
                    }
                    for outcome in outcomes
                ],
            }
        )
    for outcome in failed:
        say(f"{style('error', 'failed')}: {visible(outcome.test.title)}  ({outcome.test.span})")
        for fault in outcome.faults:
            say(f"  {visible(fault)}")
    say(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    if failed:
        raise Failure(1)
