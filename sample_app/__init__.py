"""A small Flask and Celery application that floods its queue; what the `local` stack runs."""
