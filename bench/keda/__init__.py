"""Side by side with KEDA and the HorizontalPodAutoscaler: `python -m bench.keda`, `make bench-keda`.

The real programs of KEDA, built from its Go module (`build`), are installed on devcluster for as long as the
comparison lasts (`installation`). `systems` has what is compared, `field` the stacks that it is compared on,
`load` the two loads, `figures` what is read off a run, `page` the table. Everything that was started is gone
in the end.
"""
