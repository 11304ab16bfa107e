"""The answer of the llm judge as a schema, sent along with every request and checked on return.

Fields are strict: a rating that came as text or as 7.5 is no rating, and is asked for again. The
rationale stands first, because a model that writes reasons before ratings rates by them.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from dualvla.evaluation.judges import Ratings

Failure = Literal[
    "collision",
    "unsafe",
    "too slow",
    "wrong object",
    "never grasped",
    "dropped",
    "undone",
    "jerky",
    "gripper toggles",
    "no motion",
    "silent",
]
FAILURES: tuple[str, ...] = get_args(Failure)
Rating = Annotated[int, Field(ge=0, le=10)]


class Acting(BaseModel):
    """An answer about a model that only acts."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    rationale: str = Field(min_length=1, max_length=2000)
    action: Rating
    intention: Rating
    failures: list[Failure]

    def ratings(self) -> Ratings:
        """As the VLA Score takes them."""
        return Ratings(None, self.action, self.intention, None, self._failures())

    def _failures(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.failures)))


class Speaking(Acting):
    """An answer about a model that reasons."""

    reasoning: Rating
    alignment: Rating

    def ratings(self) -> Ratings:
        """As the VLA Score takes them."""
        four = (self.reasoning, self.action, self.intention, self.alignment)
        return Ratings(*four, self._failures())


def schema(kind: type[Acting]) -> dict[str, Any]:
    """The answer's JSON schema as an OpenAI-compatible `response_format`."""
    described = {"name": kind.__name__.lower(), "strict": True, "schema": kind.model_json_schema()}
    return {"type": "json_schema", "json_schema": described}
