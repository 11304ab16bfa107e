"""When a policy asked to reason by itself does so: at as many frames as it was taught to.

The odds that a policy gives to thinking are often on one side of even everywhere, and where its own
threshold lies says nothing of how often a text was worth keeping. The rule: on held-out frames it
thinks as often as the pruned data do, at the frames where its odds are highest. Frames that show a
text in force are counted apart, because there the question is another one: whether it still holds.
"""

from collections.abc import Iterable

import torch

from dualvla import progress
from dualvla.models.policy import VlaPolicy
from dualvla.training import losses
from dualvla.training.losses import Batch


@torch.no_grad()
def offsets(model: VlaPolicy, batches: Iterable[Batch]) -> tuple[float, float]:
    """Log odds of thinking above which a policy writes: without and with a text in force.

    Args:
        model: a policy that reasons, in evaluation mode.
        batches: held-out data. Without decisions of a kind its offset is 0, which is even odds.
    """
    think, act = model.processor.think_id, model.processor.act_id
    odds: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    wanted: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for batch in batches:
        outputs = losses.run(model, batch)
        decides = (outputs.rows < batch.robots) & (
            (outputs.tokens == think) | (outputs.tokens == act)
        )
        pictures = (batch.sequences.input_ids == model.processor.image_id).sum(1)
        held = (pictures > batch.encoded.shape[1])[outputs.rows]
        for kind in (0, 1):
            chosen = decides & (held == bool(kind))
            logits = outputs.logits[chosen]
            odds[kind].append(logits[:, think] - logits[:, act])
            wanted[kind].append(outputs.tokens[chosen] == think)
    first, second = (
        threshold(torch.cat(o), torch.cat(w)) if o else 0.0
        for o, w in zip(odds, wanted, strict=True)
    )
    progress.log(f"thinks above log odds {first:.2f}, {second:.2f} with a text in force")
    return first, second


def threshold(odds: torch.Tensor, wanted: torch.Tensor) -> float:
    """The offset that as many of `odds` (M,) exceed as are `wanted` (M,) bool; 0 if M is 0."""
    if not len(odds):
        return 0.0
    count = int(wanted.sum())
    # Floats in double precision, so that the middle of two neighbours lies between them.
    ordered = odds.double().sort(descending=True).values
    above = ordered[count - 1] if count else ordered[0] + 1
    below = ordered[count] if count < len(odds) else ordered[-1] - 1
    return float((above + below) / 2)
