"""What a port to another language needs: the model, its ModelSpec as JSON, test vectors, and programs to begin with.

:func:`~pneumo_edge.kit.write.write` makes the folder, and :func:`~pneumo_edge.kit.check.check` grades the results of a
port.
"""
