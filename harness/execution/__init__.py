"""Where trials run: in warm processes of this machine, under torchrun, on a cluster."""
