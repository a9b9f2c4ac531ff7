"""The only reader and writer of files on disk: strict with what it reads, atomic with what it writes."""
