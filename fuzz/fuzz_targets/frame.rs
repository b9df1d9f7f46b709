//! A frame is either forged, which must fail, or holds content its writer should not have written:
//! the second is the more interesting, so the input is also sealed as the config of a repository.
#![no_main]
use libfuzzer_sys::fuzz_target;

use repo_format::config::{Preamble, open_settings};
use repo_format::frame::{Opener, Sealer, Subject};
use repo_format::{
    id::RepositoryId,
    keys::{KeySchedule, RootKey},
};

fuzz_target!(|data: &[u8]| {
    let (keys, repository) = (KeySchedule::new(RootKey::new([1; 32])), RepositoryId([2; 16]));
    let mut opener = Opener::new(repository, keys.clone());
    assert!(opener.open(Subject::File("config"), data).is_err(), "nobody forges a frame");
    let (mut frame, commitment) = (Vec::new(), keys.root().commitment());
    let sealed =
        Sealer::new(repository, 0, &keys.seal(0)).seal(Subject::File("config"), data, [0; 12], &mut frame);
    assert!(sealed.is_ok());
    assert_eq!(opener.open(Subject::File("config"), &frame).as_deref(), Ok(data));
    let _ = open_settings(&Preamble { repository, commitment }, &frame, &mut opener);
});
