//! What the product does, in its own words. The JSON API and the pages both call these functions
//! and add nothing but their form. Each looks up what it is given on behalf of its caller:
//! somebody else's is not found.

pub mod accounts;
pub mod addresses;
pub mod audit;
pub mod damage;
pub mod databases;
pub mod diffs;
pub mod example;
pub mod existing;
pub mod in_place;
pub mod jobs;
pub mod keys;
pub mod projects;
pub mod restores;
pub mod schedules;
pub mod sign_in;
pub mod snapshots;
pub mod upkeep;
pub mod usage;
