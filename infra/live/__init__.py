"""The cluster as it is: what stops a deployment, what keeps it from being ready, and since when."""
