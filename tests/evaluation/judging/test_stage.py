from pathlib import Path

import pytest
from judge_endpoint import good, look

from dualvla import config, files, paths
from dualvla.errors import QualityError
from dualvla.stages import score

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.slow
def test_the_stage_asks_the_llm_judge_and_its_gate_refuses_too_many_errors(
    case, evaluation, endpoint, monkeypatch
):
    evaluation(paths.EVALUATION / "dualvla", [case(n) for n in range(3)])
    params = config.load(REPOSITORY / "params.yaml")
    params = params.model_copy(update={"score": params.score.model_copy(update={"judge": "llm"})})
    _, server, _ = endpoint(look)
    monkeypatch.setenv("DUALVLA_JUDGE_URL", server.url)
    monkeypatch.setenv("DUALVLA_JUDGE_MODEL", "looker")
    score.main(params, model="dualvla")
    out = paths.SCORE / "dualvla"
    summary, first = files.read_json(out / "summary.json"), files.sha256(out)
    assert (summary["judge"], summary["n"], summary["errors"]) == ("llm", 3, 0)
    assert summary["score_per_success"] == summary["score"] > 0.7
    score.main(params, model="dualvla")
    assert len(server.requests) == 3
    assert files.sha256(out) == first

    def moody(body):
        return good(body) if len(moody_server.requests) > 1 else (400, {}, b"not this one")

    _, moody_server, _ = endpoint(moody)
    monkeypatch.setenv("DUALVLA_JUDGE_URL", moody_server.url)
    with pytest.raises(QualityError, match="too many episodes broke"):
        score.main(params, model="dualvla")
    assert files.sha256(out) == first
