"""The lines of `python -m bench http`: what a request costs in synthc's two clients, and in aiohttp."""

from __future__ import annotations

import json
import subprocess
import sys
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
    for scheme, ours, options, trusted in (
        ("http", ("direct", "pyreqwest"), [], []),
        ("https", ("pyreqwest",), ["--tls", both], ["--certificate", public]),
    ):
        *runs, python = bench.best(
            ["--latency", 0.005, *options],
            *(partial(_asked, bench, rows, client, trusted) for client in (*ours, "aiohttp")),
        )
        for client, run in zip(ours, runs, strict=True):
            yield Result(
                "clients",
                f"{rows:,} requests, {scheme}, 5 ms, {MOST} in flight: CPU time of {client}; aiohttp",
                f"{1e6 * run.cpu_s / rows:.0f} µs",
                f"{1e6 * python.cpu_s / rows:.0f} µs",
                python.cpu_s / run.cpu_s,
                TIMES,
                "≥",
                None,
                {f"{client}_s": run.wall_s, "aiohttp_s": python.wall_s},
            )


def _asked(bench: Bench, rows: int, client: str, trusted: list[str | Path], url: str) -> Measured:
    place = bench.place(rows)
    python = sys.executable if client == "direct" else python_of("bare")
    command = [python, PEERS / "bare_run.py", client, "--url", url, *trusted]
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
