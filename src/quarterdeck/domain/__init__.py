"""What a job is and what may happen to it: pure values and functions, without I/O, event loop or clock."""
