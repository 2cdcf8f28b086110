"""The job of the benchmark in distilabel: one answer of one text for each row.

Run in an environment of its own; prints one JSON document. distilabel sends a batch of rows at once and
waits for it, so that its batch size is its concurrency.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main() -> None:
    """Ask for all rows; the seconds are those of the pipeline's run, without the imports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    rows = [json.loads(line) for line in options.rows.read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as cache:
        with Pipeline(name="bench", cache_dir=cache) as pipeline:
            load = LoadDataFromDicts(data=rows, batch_size=options.concurrency)
            generate = TextGeneration(
                llm=OpenAILLM(model="bench-model", base_url=options.url, api_key="none"),
                template="Answer in one sentence: {{ question }}",
                columns=["question"],
                input_batch_size=options.concurrency,
                add_raw_input=False,
                add_raw_output=False,
            )
            load.connect(generate)
        started = time.perf_counter()
        made = pipeline.run(use_cache=False)["default"]["train"]
        seconds = time.perf_counter() - started
    answered = sum(text is not None for text in made["generation"])
    print(json.dumps({"rows": answered, "seconds": seconds}))


if __name__ == "__main__":
    main()
