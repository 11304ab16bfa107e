"""Ask a model the held-out questions -> results/benchmark/<model>.

These are the project's own generated questions about scenes never trained on, not a published
benchmark.
"""

from dualvla import files, paths, progress, quality
from dualvla.config import Params
from dualvla.stages import runner


def main(params: Params, model: str, run: str | None = None) -> None:
    """Run the stage for one model; `run` is one of the ablation's."""
    import pandas as pd
    import torch

    from dualvla.data import conversations
    from dualvla.evaluation import statistics
    from dualvla.models import policy
    from dualvla.models.features import encode_images
    from dualvla.models.inference import answer

    torch.set_num_threads(params.threads)
    asked = conversations.load(paths.MULTIMODAL, "heldout")[: params.benchmark.questions]
    pictures = conversations.pictures(paths.MULTIMODAL)
    loaded = policy.load(paths.model(model, run))
    encoded = encode_images(loaded.vlm, loaded.processor, list(pictures.values()))
    row = {name: i for i, name in enumerate(pictures)}
    given = answer(
        loaded.vlm,
        loaded.processor,
        encoded[[row[c.image] for c in asked]],
        [c.question for c in asked],
    )
    table = pd.DataFrame(
        {
            "id": [c.id for c in asked],
            "kind": [c.kind for c in asked],
            "question": [c.question for c in asked],
            "wanted": [c.answer for c in asked],
            "given": given,
            "right": [
                conversations.matches(g, c.answer) for g, c in zip(given, asked, strict=True)
            ],
        }
    )
    by_kind = {
        str(kind): statistics.rate(int(part["right"].sum()), len(part))
        for kind, part in table.groupby("kind")
    }
    total = statistics.rate(int(table["right"].sum()), len(table))
    summary = {"schema": 1, "model": model, "name": "embedded held-out QA", **total}
    with files.replacing(paths.results(paths.BENCHMARK, model, run)) as out:
        out.mkdir(parents=True)
        table.to_parquet(out / "answers.parquet", index=False)
        files.write_json(out / "summary.json", summary | {"by_kind": by_kind})
        quality.gate("metrics", out, params=params, subject=f"benchmark/{paths.label(model, run)}")
    progress.log(f"{model}: {total['k']} of {total['n']} held-out questions right")


if __name__ == "__main__":
    runner.run(main, "model", ablated=True)
