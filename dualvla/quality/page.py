"""The quality report as one page: no script, no font, no picture from elsewhere, light and dark.

Great Expectations has a page of its own (Data Docs), but it needs fifteen files from three networks
and a logo that counts visitors. This one opens from a bucket, a mail or a disk.
"""

import html
from collections.abc import Mapping
from typing import Any

MARKS = {"missing": "&#10007;", "failed": "&#10007;", "warned": "!", "passed": "&#10003;"}
STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d8dde3, #343b45);
  --soft: light-dark(#59636e, #9aa4b0); --bad: light-dark(#b42318, #ff8a7a);
  --warn: light-dark(#8a5a00, #e8b84a); --good: light-dark(#1a7037, #63c983);
  --tint: light-dark(#f5f7f9, #1b2027); }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
  background: light-dark(#fff, #12161b); color: light-dark(#1c2128, #e3e8ee); }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .7rem; vertical-align: top;
  border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; } th { background: var(--tint); font-weight: 600; }
code { font: 13px ui-monospace, monospace; }
ul { margin: .2rem 0; padding-left: 1.1rem; }
.missing, .failed { color: var(--bad); } .warned { color: var(--warn); }
.passed { color: var(--good); } .mark { font-weight: 700; white-space: nowrap; }
"""


def render(report: Mapping[str, Any]) -> str:
    """HTML of a report of `run.evaluate` with `suite` and `subject`."""
    title = f"Quality of {report['subject'] or report['suite']}"
    verdict = "passed" if report["success"] else "failed"
    counts = ", ".join(f"{n} {status}" for status, n in report["counts"].items() if n)
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="mark {verdict}">{MARKS[verdict]} {verdict}: {counts}</p>',
        f'<p class="soft">Suite {html.escape(report["suite"])}. A failure stops the stage, a '
        "warning does not; missing means that a column to check was not there.</p>",
    ]
    for name, count in report["tables"].items():
        rows = [o for o in report["expectations"] if o["table"] == name]
        body.append(f'<h2>{html.escape(name)} <span class="soft">{count} rows</span></h2>')
        body.append(_table(rows))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        "<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _table(outcomes: list[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{n}</th>" for n in ("", "column", "expected", "observed", "why"))
    rows = "\n".join(_row(outcome) for outcome in outcomes)
    return f'<div class="wide"><table><tr>{head}</tr>\n{rows}\n</table></div>'


def _row(outcome: Mapping[str, Any]) -> str:
    from dualvla.quality.run import row_name

    status = outcome["status"]
    listed = "".join(f"<li>{html.escape(row_name(row))}</li>" for row in outcome["rows"])
    observed = html.escape(str(outcome["observed"])) + (f"<ul>{listed}</ul>" if listed else "")
    kind = "" if outcome["hard"] else ' <span class="soft">(warning)</span>'
    return (
        f'<tr><td class="mark {status}">{MARKS[status]} {status}</td>'
        f"<td><code>{html.escape(', '.join(outcome['columns']))}</code></td>"
        f"<td>{html.escape(outcome['expected'])}{kind}</td><td>{observed}</td>"
        f'<td class="soft">{html.escape(outcome["why"])}</td></tr>'
    )
