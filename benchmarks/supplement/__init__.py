"""Further measurements beside the benchmark: operators, limits, energy, throughput, and other instruments."""
