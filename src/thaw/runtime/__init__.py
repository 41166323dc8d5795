"""The process, its disk and its terminal: errors, signals, files, hosts and printed output."""
