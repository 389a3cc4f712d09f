"""The functions behind the command line, for Python: ``train``, ``export``, ``evaluate`` and ``benchmark``.

Each is in the module of the same name and is called as ``pneumo_edge.train`` and so on. A verb of the command line
reads its options, calls the function and prints the result. The parameters have the names of the options.
"""
