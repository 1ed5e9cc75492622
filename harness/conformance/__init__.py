"""Check whether a training keeps what a training promises: ``decathlon check``.

A check looks at one promise and returns one finding: it holds, fails or does not apply. They are
listed in ``checks``, in the order in which they run.
"""
