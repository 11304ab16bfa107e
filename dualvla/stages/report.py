"""Write the report: report/index.html, report.md, summary.json and plots/."""

from dualvla import files, paths, progress
from dualvla.config import Params
from dualvla.stages import runner


def main(params: Params) -> None:
    """Gather every figure into summary.json and render it as a page and its Markdown twin."""
    from dualvla.report import media, page, summary, svg

    figures = summary.collect(params)
    with files.replacing(paths.REPORT) as out:
        (out / "plots").mkdir(parents=True)
        files.write_json(out / "summary.json", figures)
        for name, plot in page.draw(figures).items():
            files.write_text(out / "plots" / f"{name}.svg", svg.standalone(plot))
        files.write_text(out / "report.md", page.markdown(figures))
        shown = media.collect(figures["videos"], out)
        files.write_text(out / "index.html", page.html(figures, shown))
    progress.log(figures["verdict"]["text"])
    progress.log(f"report: {(paths.REPORT / 'index.html').resolve()}")


if __name__ == "__main__":
    runner.run(main)
