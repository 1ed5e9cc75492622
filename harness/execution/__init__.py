"""Where cells run: ``worker`` trains, ``audit`` loads, ``local`` keeps the processes."""
