#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(descriptor) = repo_format::catalog::Descriptor::from_bytes(data) {
        assert_eq!(descriptor.to_bytes(), data);
    }
});
