from celery import shared_task

from tesslate.staffroom.jobs import remove_old_output, run_next
from tesslate.staffroom.traffic import roll_up


@shared_task(name="staffroom.roll_up_traffic", ignore_result=True)
def roll_up_traffic() -> None:
    roll_up()


@shared_task(name="staffroom.run_jobs")
def run_jobs() -> None:
    """One turn; where there was something to do, there may be more."""
    if run_next():
        run_jobs.delay()


@shared_task(name="staffroom.remove_old_output")
def remove_old_exports() -> None:
    remove_old_output()
