"""What a script or a notebook calls: ``run``, ``load`` and ``compare``, exported by ``harness``."""
