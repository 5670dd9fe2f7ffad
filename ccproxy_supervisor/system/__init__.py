"""What every part that touches the machine has in common; it knows nothing of what the files and processes are for."""
