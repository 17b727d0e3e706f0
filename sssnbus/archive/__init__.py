"""A store as a stream of records: written by ``dump``, taken in by ``load``, the same for every store."""
