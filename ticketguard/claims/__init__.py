"""What an owner signs and shows, and the secrets behind it: keys, streams, envelopes, registration, reveal, time stamps."""
