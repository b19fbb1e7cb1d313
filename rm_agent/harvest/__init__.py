"""Who lends what to whom on one node: pure data structures without I/O."""

from rm_agent.harvest.allocation import RESOURCES, Allocation
from rm_agent.harvest.ledger import Ledger, Loan, Step
from rm_agent.harvest.pool import Offer, draw

__all__ = ["RESOURCES", "Allocation", "Ledger", "Loan", "Offer", "Step", "draw"]
