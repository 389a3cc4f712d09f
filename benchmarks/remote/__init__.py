"""Measures on another machine, which OpenSSH reaches: the ordinary benchmark runs there, and its results come back."""
