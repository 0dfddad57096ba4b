from tests.integrations.postgres.conftest import booth, booth_of, keys, voting_pool

__all__ = ["booth", "booth_of", "keys", "voting_pool"]
