"""The demo: Larder's whole way on one machine, and the hub that it downloads from.

    scenario.py     the steps, in their order      stage.py      where they happen, and its end
    source.py       whose models                   models.py     the two that are made on the spot
    admission.py    the review and the patch       review.json   a recorded one;  tls.py
    kubelet.py      an init container, laid out    starts.py     run and measured
    entrypoint.py   what KServe's image runs       processes.py  started, awaited, ended
    report.py       the figures                    show.py       what people see
    hub*.py         a server that speaks the Hub's protocol, and misbehaves when told to
    serve.py        that hub as a pod              model_server.py  what reads a model in a pod

The hub is also the tests' and the benchmarks' one. What the demo depends on beyond Larder itself
(scikit-learn, safetensors, kserve-storage) stays out of the images; Dockerfile.demo makes
one of its own, for tests in a cluster.
"""
