"""Stage score: the VLA Score of an evaluated model -> results/score/MODEL."""

from dualvla import files, paths, quality
from dualvla.config import Params
from dualvla.stages import runner
from dualvla.stages.evaluate import require_listed


def main(params: Params, model: str) -> None:
    """Rate every trajectory of results/evaluate/MODEL; write scores.parquet and summary.json.

    Raises:
        UserError: a model that is not in evaluate.models, or is not evaluated; no endpoint for
            the llm judge.
    """
    require_listed(params, model)

    from dualvla.evaluation.judging import scoring

    scored = scoring.rate(paths.EVALUATION / model, model, params.score)
    with files.replacing(paths.SCORE / model) as out:
        scoring.write(scored, out)
        quality.gate("metrics", out, params=params, subject=f"score/{model}")


if __name__ == "__main__":
    runner.run(main, "model")
