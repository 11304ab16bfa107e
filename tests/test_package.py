import subprocess
import sys


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import dualvla, dualvla.config, dualvla.cli, sys;"
        "assert not {'prefect', 'dvc', 'great_expectations', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
