"""A real single-node Kubernetes for a machine that has neither a cluster nor an image registry.

etcd, API server, controllers, scheduler, kubelet, kube-proxy, DNS and volumes run as processes of
this machine, built from their Go modules; containerd, runc and the CNI plugins come from Debian
or Ubuntu packages. `python -m tests.devcluster` is the way in (`__main__`), `cluster` the
story of one `up` and one `down`, `images` what puts images into the node.

It needs root, and only the standard library, so that it runs before any environment exists.
It refuses to be a production cluster (one node, etcd without fsync) and does not enforce
NetworkPolicy. It never reads or writes the user's kubeconfig.
"""
