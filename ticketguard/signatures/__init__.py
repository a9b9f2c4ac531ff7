"""What a ticket can carry: the edge code, the QR code, key masks."""
