"""The demo: Larder's whole way on one machine, and the hub that it downloads from.

The hub is also the tests' and the benchmarks' one. What the demo depends on beyond Larder itself
(scikit-learn, safetensors, kserve-storage) stays out of the images.
"""
