"""Reading multimodal data: LLaVA conversations, their pictures and the scenes' labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dualvla import files
from dualvla.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Split = Literal["train", "heldout"]


@dataclass(frozen=True)
class Conversation:
    """One question about one picture."""

    id: str
    image: str  # key of `pictures`
    kind: str  # colour, count, position, ...
    question: str
    answer: str


def load(root: Path, split: Split) -> list[Conversation]:
    """Conversations of a split, in file order.

    Raises:
        UserError: no such file, or an entry that is not one question and one answer.
    """
    path = root / f"{split}.json"
    conversations = []
    for i, entry in enumerate(files.read_json(path)):
        try:
            human, model = entry["conversations"]
            question = human["value"].replace("<image>", "").strip()
            conversations.append(
                Conversation(entry["id"], entry["image"], entry["kind"], question, model["value"])
            )
            speakers = (human["from"], model["from"])
        except (KeyError, TypeError, ValueError) as error:
            what = f"entry {i} is not one question and one answer: {error}"
            raise UserError(what, where=str(path), fix="write it in the LLaVA form") from error
        if speakers != ("human", "gpt"):
            what = f"entry {i}: speakers are {speakers}, not human and gpt"
            raise UserError(what, where=str(path), fix="write it in the LLaVA form")
    return conversations


def pictures(root: Path) -> dict[str, bytes]:
    """All pictures of the shards by name, sorted."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[str, bytes] = {}
    for shard in sorted((root / "images").glob("shard-*.parquet")):
        try:
            table = pq.read_table(shard, columns=["name", "bytes"])
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(
                f"unreadable shard: {error}", where=str(shard), fix="run the stage multimodal"
            ) from error
        found.update(zip(table["name"].to_pylist(), table["bytes"].to_pylist(), strict=True))
    if not found:
        raise UserError("no picture shards", where=str(root), fix="run the stage multimodal")
    return dict(sorted(found.items()))


def labels(root: Path) -> "pd.DataFrame":
    """Rows of scenes.parquet: what is where in each picture."""
    import pandas as pd

    path = root / "scenes.parquet"
    if not path.is_file():
        raise UserError("no scene labels", where=str(path), fix="run the stage multimodal")
    return pd.read_parquet(path)


def matches(given: str, wanted: str, tolerance: int = 3) -> bool:
    """Exact match of words; positions (integers, percent) may differ by `tolerance` each."""
    a, b = given.lower().split(), wanted.lower().split()
    if len(a) != len(b):
        return False
    return all(
        x == y or (x.isdigit() and y.isdigit() and len(b) > 1 and abs(int(x) - int(y)) <= tolerance)
        for x, y in zip(a, b, strict=True)
    )
