"""The job of the benchmark in Data Designer: one text column over a seed data set.

Run in an environment of its own; prints one JSON document. All rows are one group, prompts are rendered
by Jinja alone, and no metrics are served: that was its quickest.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Ask for all rows; the seconds are those of `create`, without the imports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    options = parser.parse_args()
    os.environ["NEMO_TELEMETRY_ENABLED"] = "false"
    os.environ["BENCH_KEY"] = "none"
    count = sum(1 for _ in options.rows.open("rb"))

    with tempfile.TemporaryDirectory() as folder:
        os.environ["DATA_DESIGNER_HOME"] = folder  # its settings, which it writes at import

        import data_designer.config as dd
        from data_designer.interface import DataDesigner

        logging.disable(logging.INFO)
        provider = dd.ModelProvider(
            name="bench", endpoint=options.url, provider_type="openai", api_key="BENCH_KEY"
        )
        model = dd.ModelConfig(
            alias="bench",
            model="bench-model",
            provider="bench",
            inference_parameters=dd.ChatCompletionInferenceParams(
                max_parallel_requests=options.concurrency
            ),
            skip_health_check=True,
        )
        builder = dd.DataDesignerConfigBuilder(model_configs=[model])
        builder.with_seed_dataset(dd.LocalFileSeedSource(path=str(options.rows)))
        builder.add_column(
            dd.LLMTextColumnConfig(
                name="answer",
                model_alias="bench",
                prompt="Answer in one sentence: {{ question }}",
            )
        )
        designer = DataDesigner(artifact_path=folder, model_providers=[provider])
        designer.set_run_config(
            dd.RunConfig(
                buffer_size=count,
                jinja_rendering_engine=dd.JinjaRenderingEngine.NATIVE,
                otel_metrics_port=None,
            )
        )
        ended: list[float] = []
        started = time.perf_counter()
        made = designer.create(
            builder,
            num_records=count,
            # What comes after the rows, a profile of them, does not count.
            on_batch_complete=lambda _path: ended.append(time.perf_counter()),
        ).load_dataset()
        seconds = ended[-1] - started
        answered = int(made["answer"].notna().sum())
    print(json.dumps({"rows": answered, "seconds": seconds}))


if __name__ == "__main__":
    main()
