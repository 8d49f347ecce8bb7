"""The Celery app: three queues, and which task goes into which.

The broker and the result backend come from CELERY_BROKER_URL and CELERY_RESULT_BACKEND.
"""

from celery import Celery

app = Celery("shop", include=["shop.tasks"])
app.conf.task_routes = {
    "shop.tasks.send_mail": {"queue": "mail"},
    "shop.tasks.take_order": {"queue": "orders"},
    "shop.tasks.write_report": {"queue": "reports_eu"},
}
app.conf.beat_schedule = {
    "remind": {"task": "shop.tasks.send_mail", "schedule": 2.0, "args": ("everybody",)},
}
