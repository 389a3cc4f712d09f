"""Every network in every format on every engine: ``make matrix``.

Each network gets a head, fitted on features of the sample pack, and is exported to all formats. Each file has to pass
its acceptance checks on each engine, and is timed beside the others of its network (``measure``). The record of a
network goes to ``results/matrix`` as soon as it is complete (``network_records``). docs/matrix.md is computed from the
records (``page``).
"""
