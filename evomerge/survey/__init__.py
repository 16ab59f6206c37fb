"""What can be known of parents before any merge: read once, counted, judged, and shown."""
