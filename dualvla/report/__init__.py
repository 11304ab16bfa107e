"""Results as a page, a Markdown twin and a JSON summary.

`summary` gathers every figure into one JSON document, `page` renders it and nothing else: a number
that is not in `report/summary.json` cannot be on the page. The schema is docs/report-schema.md.
"""
