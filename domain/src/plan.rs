//! What each plan allows: the only table of limits.

use pulse_protocol::api::{Limits, Plan};

/// What `plan` allows.
#[must_use]
pub const fn limits(plan: Plan) -> Limits {
    match plan {
        Plan::Trial => Limits { agents: 10, devices: 100, users: 5, api_calls_month: 10_000 },
        Plan::Starter => Limits { agents: 10, devices: 100, users: 10, api_calls_month: 50_000 },
        // Calls are not counted against this plan; the largest number stands for that.
        Plan::Unlimited => {
            Limits { agents: 100, devices: 5_000, users: 50, api_calls_month: UNCOUNTED }
        }
    }
}

/// Stands for a limit that is never reached: the largest whole number every JSON reader keeps exact.
pub const UNCOUNTED: u64 = 9_007_199_254_740_991;
