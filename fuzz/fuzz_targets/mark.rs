#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(mark) = repo_format::mark::Mark::from_bytes(data) {
        assert_eq!(mark.to_bytes(), data);
    }
});
