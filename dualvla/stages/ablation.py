"""Write the ablation's report: ablation/report/page.html, report.md, summary.json and plots/."""

from dualvla import files, paths, progress
from dualvla.config import Params
from dualvla.stages import runner


def main(params: Params) -> None:
    """Gather every run's figures into summary.json and render it."""
    from dualvla.report import ablation, ablation_page, svg

    figures = ablation.collect(params)
    folder = paths.ABLATION / paths.REPORT
    with files.replacing(folder) as out:
        (out / "plots").mkdir(parents=True)
        files.write_json(out / "summary.json", figures)
        files.write_json(out / "metrics.json", ablation.metrics(figures))
        for name, plot in ablation_page.draw(figures).items():
            files.write_text(out / "plots" / f"{name}.svg", svg.standalone(plot))
        files.write_text(out / "report.md", ablation_page.markdown(figures))
        files.write_text(out / "page.html", ablation_page.html(figures))
    for row in figures["claims"]:
        progress.log(f"{row['budget']}, {row['starts']} starts, {row['claim']}: {row['text']}")
    progress.log(f"report: {(folder / 'page.html').resolve()}")


if __name__ == "__main__":
    runner.run(main)
