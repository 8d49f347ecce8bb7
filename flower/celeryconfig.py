"""What Flower has to know of the app's configuration; Celery's default loader looks for this module.

Broker and result backend come from Celery's own variables. With other keys than the app's, or without the
name of the Sentinels' master, Flower would see no worker.
"""

import json
import os

broker_transport_options = json.loads(os.environ.get("CELERY_FLEET_BROKER_TRANSPORT_OPTIONS", "{}"))
