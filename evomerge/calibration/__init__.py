"""What models answered before a search: kept on disk, found again, imported, and laid out as the item bank."""
