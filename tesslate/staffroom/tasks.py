from celery import shared_task

from tesslate.staffroom.traffic import roll_up


@shared_task(name="staffroom.roll_up_traffic", ignore_result=True)
def roll_up_traffic() -> None:
    roll_up()
