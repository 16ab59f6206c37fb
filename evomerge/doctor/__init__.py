"""What can be known of a search before it starts, told line by line, each with its way out."""
