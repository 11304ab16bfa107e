"""Retrain: every stage of dvc.yaml as one Prefect task, then push, publish, show."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.task_runners import ThreadPoolTaskRunner

from dualvla.busy import WhenBusy
from flows import running
from tasks.run import RETRAIN


@flow(
    name=RETRAIN.name,
    flow_run_name=running.run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=running.THREADS),
)
def retrain(
    root: str = ".",
    profile: str | None = None,
    when_busy: WhenBusy = "refuse",
    checked: bool = False,
) -> State:
    """Bring every stage up to date; push, publish and show the result if all are green.

    Args:
        root: the project's folder.
        profile: overlay of params/; None is params.yaml as it is.
        when_busy: wait while another run holds the folder, or refuse.
        checked: the preflight checks were made just now.
    """
    return running.bring_up_to_date(RETRAIN, root, profile, when_busy, checked)


if __name__ == "__main__":
    running.enter(retrain, __doc__)
