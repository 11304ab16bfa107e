"""Build the generated asset pack if need be and print its folder."""

import sys

from dualvla.errors import UserError
from dualvla.simulation.assets.pack import activate

if __name__ == "__main__":
    try:
        sys.stdout.write(f"{activate('generated')}\n")
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
