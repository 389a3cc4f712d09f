"""The service under attack: what an honest client sees beside each of five attacks.

``make serve-load`` starts a service of its own on a loopback address, attacks it for a bounded time, and prints a
table.
Nothing here takes an address: clients connect to 127.0.0.1 alone.
"""
