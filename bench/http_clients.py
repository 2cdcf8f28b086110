"""The line of `python -m bench http`: what a request costs in pyreqwest and in aiohttp."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.engine import MOST, Bench, Line
from bench.environments import PEERS, python_of
from bench.processes import Failed, Measured, measured
from bench.report import TIMES, Result


def clients(bench: Bench) -> Iterator[Result]:
    """Requests of a bare loop over each client, at 5 ms, plain and with TLS."""
    rows = bench.count(20_000)
    public, both = certificate(bench.folder)
    for scheme, options, trusted in (
        ("http", [], []),
        ("https", ["--tls", both], ["--certificate", public]),
    ):
        rust, python = bench.best(
            ["--latency", 0.005, *options],
            *(partial(_asked, bench, rows, client, trusted) for client in ("pyreqwest", "aiohttp")),
        )
        rust_us, python_us = (1e6 * run.cpu_s / rows for run in (rust, python))
        yield Result(
            "clients",
            f"{rows:,} requests, {scheme}, 5 ms, {MOST} in flight: CPU time; aiohttp",
            f"{rust_us:.0f} µs",
            f"{python_us:.0f} µs",
            python_us / rust_us,
            TIMES,
            "≥",
            None,
            {"pyreqwest_s": rust.wall_s, "aiohttp_s": python.wall_s},
        )


def _asked(bench: Bench, rows: int, client: str, trusted: list[str | Path], url: str) -> Measured:
    place = bench.place(rows)
    command = [python_of("bare"), PEERS / "bare_run.py", client, "--url", url, *trusted]
    more = ["--rows", place / "rows.jsonl", "--concurrency", str(MOST)]
    run = measured([*command, *more], place)
    if json.loads(run.stdout)["rows"] != rows:
        raise Failed(f"{client} answered {run.stdout}")
    return run


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody signed; and a file that has its key, too."""
    public, key, both = (folder / name for name in ("public.pem", "key.pem", "both.pem"))
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subject += ["-addext", "basicConstraints=critical,CA:FALSE"]  # rustls refuses an authority here
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *kind, *subject, "-keyout", key, "-out", public]
    subprocess.run(command, check=True, capture_output=True)
    both.write_bytes(public.read_bytes() + key.read_bytes())
    return public, both


LINES: dict[str, Line] = {"clients": clients}
