"""The HTTP service: a page and a JSON endpoint on the device, of the extra ``serve``.

An image comes as the body of a request, whole and alone. So there is no form to parse, no temporary file, and no
file name that could be kept.
"""
