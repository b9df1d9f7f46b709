#![no_main]
use libfuzzer_sys::fuzz_target;

use repo_format::{
    id::{RepositoryId, SlotId},
    slot::{UnlockKey, unwrap},
};

fuzz_target!(|data: &[u8]| {
    let key =
        UnlockKey::from_recovery_text(&String::from_utf8_lossy(data)).unwrap_or(UnlockKey::new([4; 32]));
    assert!(unwrap(RepositoryId([0; 16]), SlotId([3; 16]), data, &key).is_err(), "nobody forges a slot");
});
