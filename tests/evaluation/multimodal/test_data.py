import pytest

from dualvla import files
from dualvla.errors import UserError
from dualvla.evaluation.multimodal import data, samples, tasks

MMSTAR = tasks.select(["mmstar"])


def hub(monkeypatch, folder, revision="a" * 40):
    """A hub client that knows one revision; returns what it was asked for."""
    import huggingface_hub

    asked = []

    class Api:
        def dataset_info(self, name, timeout):
            asked.append((name, None))
            return type("Info", (), {"sha": revision})

    def download(name, *, repo_type, revision):
        asked.append((name, revision))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def test_self_made_rows_are_written_and_labelled(tmp_path):
    (source,) = data.resolve("self-made", MMSTAR, tmp_path).values()
    assert (source.label, source.revision) == ("self-made sample", None)
    assert source.sha256 == files.sha256(tmp_path / "Lin-Chen/MMStar")


def test_a_folder_of_self_made_rows_stays_self_made(tmp_path):
    samples.write(tmp_path, MMSTAR)
    (source,) = data.resolve(str(tmp_path), MMSTAR, tmp_path / "unused").values()
    assert source.label == samples.LABEL


def test_a_copy_is_no_benchmark(tmp_path):
    samples.write(tmp_path, MMSTAR)
    (tmp_path / "Lin-Chen/MMStar" / samples.MARK).unlink()
    (source,) = data.resolve(str(tmp_path), MMSTAR, tmp_path / "unused").values()
    assert source.label == data.COPY


def test_a_missing_folder_says_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"hf download --repo-type dataset Lin-Chen/MMStar"):
        data.resolve(str(tmp_path), MMSTAR, tmp_path / "unused")


def test_a_revision_is_pinned_once(tmp_path, monkeypatch):
    pins = tmp_path / "pins.json"
    files.write_json(pins, {})
    asked = hub(monkeypatch, tmp_path)
    for _ in range(2):
        (source,) = data.resolve("hub", MMSTAR, tmp_path, pins).values()
        assert (source.label, source.revision) == (data.BENCHMARK, "a" * 40)
    name = "Lin-Chen/MMStar"
    assert asked == [(name, None), (name, "a" * 40), (name, "a" * 40)]
    assert files.read_json(pins) == {name: "a" * 40}


def test_without_the_hub_one_error_says_what_to_do(tmp_path, monkeypatch):
    import huggingface_hub

    def fail(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    pins = tmp_path / "pins.json"
    files.write_json(pins, {"Lin-Chen/MMStar": "b" * 40})
    with pytest.raises(UserError, match=r"hf download .*--revision b{40}.*--data self-made"):
        data.resolve("hub", MMSTAR, tmp_path, pins)
