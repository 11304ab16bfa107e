"""Known vulnerabilities of the installed packages, as far as the package index tells of them.

    python infra/audit.py          exit code 1 if there are some

pip-audit calls a package that it could not ask about "skipped" and ends well; an index that answers
nothing would look like a clean audit. So this counts what was audited, and says if it was nothing.
"""

import json
import subprocess
import sys
from typing import Any

COMMAND = (
    "-m",
    "pip_audit",
    "--local",
    "--skip-editable",
    "--progress-spinner",
    "off",
    "-f",
    "json",
)


def main() -> int:
    """Audit this environment; 0 if nothing is known against it or nothing can be known."""
    done = subprocess.run([sys.executable, *COMMAND], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        sys.stdout.write(f"NOT AUDITED: pip-audit could not ask the index: {last}\n")
        return 0
    lines, code = judge(packages)
    sys.stdout.write("\n".join(lines) + "\n")
    return code


def judge(packages: list[dict[str, Any]]) -> tuple[list[str], int]:
    """What to say of pip-audit's findings, and the exit code."""
    audited = [one for one in packages if "vulns" in one]
    if not audited:
        return ["NOT AUDITED: this index tells of no vulnerabilities; ask another one"], 0
    found = [
        f"{one['name']} {one['version']}: {flaw['id']}, mended in "
        f"{', '.join(flaw['fix_versions']) or 'no version'}"
        for one in audited
        for flaw in one["vulns"]
    ]
    unknown = len(packages) - len(audited)
    total = f"{len(audited)} packages audited, {unknown} unknown to the index, {len(found)} flaws"
    return [*found, total], int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
