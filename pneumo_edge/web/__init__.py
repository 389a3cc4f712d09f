"""Builds a static site that classifies chest X-rays in the browser: the page, model files and a WebAssembly runtime."""
