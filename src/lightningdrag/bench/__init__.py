"""What an edit costs on this machine: seconds, bytes and operations, beside what the machine can do."""
