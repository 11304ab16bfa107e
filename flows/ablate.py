"""Ablate: every stage of ablation/dvc.yaml, and what lies before them, as Prefect tasks."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner

from dualvla.busy import WhenBusy
from flows import running
from tasks.run import ABLATE


@flow(
    name=ABLATE.name,
    flow_run_name=running.run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=running.THREADS),
)
def ablate(
    root: str = ".",
    profile: str | None = None,
    when_busy: WhenBusy = "refuse",
    checked: bool = False,
) -> State:
    """Train and evaluate all arms under all budgets and seeds; push, publish and show the report.

    Args:
        root: the project's folder.
        profile: overlay of params/; None is params.yaml as it is.
        when_busy: wait while another run holds the folder, or refuse.
        checked: the preflight checks were made just now.
    """
    return running.bring_up_to_date(ABLATE, root, profile, when_busy, checked)


if __name__ == "__main__":
    running.enter(ablate, __doc__)
