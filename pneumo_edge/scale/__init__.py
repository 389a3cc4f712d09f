"""Scores archives of any size, in shards, on the cores of one machine or of a cluster.

``rows`` has the columns of a result.
"""
