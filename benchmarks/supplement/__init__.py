"""What is measured beyond the protocol: why a file is slow, what it costs, and what other instruments read."""
