from tests.workers.tally_cells import make_cells, tally_cell, tally_databases

__all__ = ["make_cells", "tally_cell", "tally_databases"]
