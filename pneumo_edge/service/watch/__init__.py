"""Classifies what arrives in a folder, each file once: the counterpart of the HTTP service for a device.

:mod:`~pneumo_edge.service.watch.inbox` finds files and waits until they are whole,
:mod:`~pneumo_edge.service.watch.ledger` records what was done with each, and
:mod:`~pneumo_edge.service.watch.run` classifies, writes and moves.
"""
