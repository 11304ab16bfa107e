"""Train the base vision-language model on the multimodal data: data/multimodal -> models/base_vlm.

With `model.vlm` other than `tiny` the named checkpoint is loaded instead and stored beside.
"""

from dualvla import config, files, paths, progress
from dualvla.config import Params
from dualvla.data import conversations, language
from dualvla.stages import runner


def main(params: Params) -> None:
    """Run the stage."""
    import torch

    from dualvla.training import base, checkpoints, environment, sharding

    torch.set_num_threads(params.threads)
    asked = conversations.load(paths.MULTIMODAL, "train")
    texts = [text for c in asked for text in (c.question, c.answer)] + language.lexicon()
    model, processor = base.build(params, texts)
    sections = ("seed", "threads", "simulation.image_size", "model", "base_vlm")
    resolved = config.resolved(params, *sections)
    mark = checkpoints.fingerprint(resolved, [paths.MULTIMODAL])
    metrics = {"schema": 1, "stage": "base_vlm"}
    if params.model.vlm == "tiny":
        seen = base.train_vision(model, processor, params, paths.MULTIMODAL, mark)
        told = base.train_language(model, processor, params, paths.MULTIMODAL, mark)
        metrics |= {
            "steps": told["steps"],
            "curve": told["curve"],
            "vision": {"steps": seen["steps"], "curve": seen["curve"], **seen["heldout"]},
            "heldout": told["heldout"],
        }
        errors = ", ".join(f"{k} {v:.3g}" for k, v in seen["heldout"].items())
        progress.log(f"base_vlm: held-out vision errors: {errors}")
    if sharding.rank():
        return  # process 0 writes
    with files.replacing(paths.model("base_vlm")) as out:
        model.save_pretrained(str(out))
        processor.save(out)
        files.write_json(out / "params.json", resolved)
        files.write_json(out / "environment.json", environment.fingerprint())
        files.write_json(out / "metrics.json", metrics)


if __name__ == "__main__":
    runner.run(main, trains=True)
