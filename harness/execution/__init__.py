"""Where cells run: ``worker`` is what happens inside one process, ``local`` keeps the processes."""
