//! The problem codes of what a node can take, and of what its owner plans for it.

use super::Code;

pub(super) const CAPACITY_GONE: Code = (
    409,
    "capacity_gone",
    "the node has less than that free now: choose another offer or a smaller size",
);
pub(super) const NODE_NOT_ISOLATED: Code = (
    409,
    "node_not_isolated",
    "the node's firewall isn't in force, so it gives no rental a network now; choose another offer",
);
pub(super) const NODE_CORDONED: Code = (
    409,
    "node_cordoned",
    "its provider takes no new rentals on this node now: choose another offer",
);
pub(super) const MAINTENANCE: Code = (
    409,
    "maintenance_planned",
    "the node is under maintenance from 2027-01-10T02:00:00Z until 2027-01-10T04:00:00Z: rent for less time, or choose another offer",
);
pub(super) const NODE_DRAINING: Code = (
    409,
    "node_draining",
    "its provider takes the node back at 2027-01-10T02:00:00Z: extend it for less time",
);
pub(super) const CAPACITY_IN_USE: Code = (
    409,
    "capacity_in_use",
    "rentals hold more than that: wait for them to end, or stop them",
);
