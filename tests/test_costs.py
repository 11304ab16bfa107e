"""What a process costs: read where the platform tells, null where it does not."""

import time

import pytest

from dualvla import costs, files
from dualvla.report import costs as totals

RANGE = 262_143_328_850  # microjoules, as of a desktop package


def powercap(root, **energies):
    """Files as the kernel lays them out: two packages, a core within one and the platform."""
    for number, (name, energy) in enumerate(energies.items()):
        folder = root / f"intel-rapl:{number}"
        folder.mkdir(exist_ok=True)
        files.write_text(folder / "name", f"{name.replace('_', '-')}\n")
        files.write_text(folder / "max_energy_range_uj", f"{RANGE}\n")
        files.write_text(folder / "energy_uj", f"{energy}\n")  # never half, as of the kernel
    inner = root / "intel-rapl:0:0"
    inner.mkdir(exist_ok=True)
    files.write_text(inner / "name", "core\n")
    return root


def test_energy_is_that_of_all_packages_and_survives_a_counter_that_begins_anew(tmp_path):
    meter = costs.Meter(powercap(tmp_path, package_0=5_000_000, package_1=RANGE, psys=1))
    powercap(tmp_path, package_0=7_000_000, package_1=1_000_000, psys=10**9)
    spent = meter.read()
    assert (spent["energy_joules"], spent["energy_of"]) == (3.0, ["cpu"])
    assert meter.read()["energy_joules"] == 3.0


def test_energy_between_two_readings_is_added_up_while_the_process_works(tmp_path):
    meter = costs.Meter(powercap(tmp_path, package_0=RANGE - 1), every=0.01)
    for energy in (10_000_000, 20_000_000):
        powercap(tmp_path, package_0=RANGE - 1)
        wait_for(meter, RANGE - 1, tmp_path)
        powercap(tmp_path, package_0=energy)
        wait_for(meter, energy, tmp_path)
    assert meter.read()["energy_joules"] > 30.0


def wait_for(meter, energy, root):
    """Until the meter's thread has read a value."""
    end = time.monotonic() + 60
    while meter._packages._last[root / "intel-rapl:0"] != energy:
        assert time.monotonic() < end, "the meter does not read"
        time.sleep(0.005)


def test_what_cannot_be_measured_is_null(tmp_path):
    spent = costs.Meter(tmp_path).read()
    assert (spent["energy_joules"], spent["energy_of"]) == (None, [])
    assert (spent["gpu_seconds"], spent["gpu_peak_mib"]) == (0.0, None)
    assert spent["peak_rss_mib"] > 10


def test_cpu_time_is_that_since_the_meter_was_made(tmp_path):
    meter = costs.Meter(tmp_path)
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert 0.04 < meter.read()["cpu_seconds"] < 30


def row(stage, **known):
    return (
        dict.fromkeys((*totals.SUMS, *totals.PEAKS)) | {"energy_of": []} | known | {"stage": stage}
    )


ROWS = [
    row("collect", seconds=60.0, cpu_seconds=100.0, peak_rss_mib=300.0, s3_sent_bytes=0)
    | {"energy_joules": 50.0, "energy_of": ["cpu", "gpu"]},
    row("train@one", seconds=30.0, cpu_seconds=50.0, peak_rss_mib=900.0)
    | {"energy_joules": 20.0, "energy_of": ["cpu"]},
    row("train@two", seconds=10.0, cpu_seconds=10.0, peak_rss_mib=100.0),
    row("evaluate@one"),
]


def test_a_total_sums_times_takes_peaks_and_is_null_of_nothing():
    whole = totals.total(ROWS)
    assert (whole["stages"], whole["measured"]) == (4, 3)
    assert (whole["seconds"], whole["cpu_seconds"], whole["peak_rss_mib"]) == (100.0, 160.0, 900.0)
    assert (whole["energy_joules"], whole["energy_of"]) == (70.0, ["cpu"])
    assert (whole["gpu_seconds"], whole["s3_sent_bytes"]) == (None, 0)
    assert totals.total([])["seconds"] is None


def test_a_model_s_cost_is_that_of_all_that_led_to_it():
    upstream = {"collect": [], "train@one": ["collect"], "train@two": ["collect"]}
    upstream["evaluate@one"] = ["train@one"]
    stages = [{"stage": name, "upstream": ups} for name, ups in upstream.items()]
    summary = {"lineage": {"stages": stages}, "timings": ROWS}
    names = [one["stage"] for one in totals.of_model("one", summary)]
    assert names == ["collect", "train@one", "evaluate@one"]


@pytest.mark.slow
def test_bytes_to_and_from_s3_are_counted_by_the_client(s3_root):
    from dualvla import config
    from dualvla.store import client

    store = config.Store(endpoint=None, bucket="counted", region="us-east-1")
    where = client.place(store, s3_root)
    client.check(where, create=True)
    s3, meter = client.connect(where), costs.Meter()
    s3.put_object(Bucket="counted", Key="a/x", Body=b"x" * 30_000)
    s3.head_object(Bucket="counted", Key="a/x")
    sent = meter.read()
    assert 30_000 <= sent["s3_sent_bytes"] < 40_000
    assert sent["s3_received_bytes"] < 10_000
    s3.get_object(Bucket="counted", Key="a/x")["Body"].read()
    assert 30_000 <= meter.read()["s3_received_bytes"] < 40_000
    assert client.stored_bytes(where, "a") == 30_000
