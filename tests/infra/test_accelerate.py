"""Launch configurations, read as `accelerate launch` reads them."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType

FOLDER = Path(__file__).parents[2] / "infra/accelerate"
EXPECTED = {  # machines, processes, kind, on a CPU
    "cpu.yaml": (1, 1, DistributedType.NO, True),
    "cpu-2.yaml": (1, 2, DistributedType.MULTI_GPU, True),
    "gpu.yaml": (1, 1, DistributedType.NO, False),
    "fsdp-8.yaml": (1, 8, DistributedType.FSDP, False),
    "nodes.yaml": (2, 16, DistributedType.FSDP, False),
}


def test_every_configuration_is_expected():
    assert {path.name for path in FOLDER.glob("*.yaml")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_accelerate_reads_it(name):
    read = load_config_from_file(str(FOLDER / name))
    assert (read.num_machines, read.num_processes) == EXPECTED[name][:2]
    assert (read.distributed_type, read.use_cpu) == EXPECTED[name][2:]


def test_machines_are_named_when_launching():
    given = ["--config_file", str(FOLDER / "nodes.yaml"), "--num_machines", "4"]
    given += ["--num_processes", "32", "--machine_rank", "3", "--main_process_ip", "first"]
    parsed = launch_command_parser().parse_args([*given, "-m", "dualvla.stages.specialist"])
    read, _, _ = _validate_launch_command(parsed)
    assert read.use_fsdp
    assert (read.num_machines, read.num_processes, read.machine_rank) == (4, 32, 3)
    assert read.fsdp_version == 2
