"""The functions behind the command line, for Python: ``train``, ``export``, ``evaluate`` and ``benchmark``.

Each is in the module of its name, and is reached as ``pneumo_edge.train`` and so on. A verb of the command line reads
its options, calls the function, and prints what it returns; parameters have the names of the options.
"""
