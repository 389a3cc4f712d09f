"""The HTTP service: a web page and a JSON endpoint on the device (extra ``serve``).

A request's body is one image file. So there is no form to parse, no temporary file, and no file name to store.
"""
