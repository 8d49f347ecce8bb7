"""What `make demo`, `make down` and `make images` run: a stack from nothing, and away again.

`__main__` is the way in, `story` the order of things. `environment` prepares the machine before
anything else exists, `cluster` finds or makes a Kubernetes, `images` builds what the stack runs,
`engine` and `rendered` are the two ways of deploying it, `screen` shows it live, and `transcript`
captures the ordinary `pulumi` workflow for the documentation.
Nothing here is needed to run Celery Fleet: it only uses what the other folders offer.
"""
