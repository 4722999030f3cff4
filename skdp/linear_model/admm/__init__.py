"""Private ADMM: linear models over rows that stay where they are."""

from skdp.linear_model.admm.coordinator import Consensus, Coordinator
from skdp.linear_model.admm.site import Site
from skdp.linear_model.admm.terms import Terms

__all__ = ["Consensus", "Coordinator", "Site", "Terms"]
