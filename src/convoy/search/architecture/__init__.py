"""Architecture search: spaces of networks as sequences of decisions, and the samplers that choose among them."""
