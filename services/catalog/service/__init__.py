"""What the catalog does; `catalog.py` is the way in."""
