"""Ask and change the machine: the doers that the flows call. They decide nothing."""
