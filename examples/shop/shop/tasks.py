"""What the shop does in the background."""

import os
import time

from shop.celery import app


@app.task  # type: ignore[untyped-decorator]  # celery has no types
def send_mail(to: str) -> str:
    return f"mailed {to}"


@app.task  # type: ignore[untyped-decorator]  # celery has no types
def take_order(number: int) -> str:
    return f"order {number} by {os.environ.get('SHOP_NAME', 'nobody')}"


@app.task  # type: ignore[untyped-decorator]  # celery has no types
def write_report(seconds: float) -> str:
    time.sleep(seconds)
    return "report"
