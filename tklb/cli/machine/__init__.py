"""Set this machine up, and see what tklb makes of it: init, delta, why, status."""
