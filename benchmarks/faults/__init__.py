"""What a process that is killed, and processes that act at once, leave behind."""
