//! A pack whose footer opens and whose directory is the input.
#![no_main]
use libfuzzer_sys::fuzz_target;

use repo_format::frame::{Opener, Sealer, Subject};
use repo_format::{
    id::{PackId, RepositoryId},
    keys::{KeySchedule, RootKey},
    pack,
};

fuzz_target!(|data: &[u8]| {
    let (keys, repository, id) =
        (KeySchedule::new(RootKey::new([1; 32])), RepositoryId([2; 16]), PackId([3; 16]));
    let mut opener = Opener::new(repository, keys.clone());
    let _ = pack::read_directory(id, data, &mut opener);
    let mut file = [&pack::MAGIC[..], &[0; 500]].concat();
    let mut sealer = Sealer::new(repository, 0, &keys.seal(0));
    let name = format!("packs/{id}#footer");
    let Ok(len) = sealer.seal_raw(Subject::File(&name), data, [0; 12], &mut file) else { return };
    file.extend_from_slice(&(len as u32).to_le_bytes());
    for object in pack::read_directory(id, &file, &mut opener).into_iter().flatten() {
        assert!(file.get(object.offset as usize..).is_some_and(|rest| rest.len() >= object.len as usize));
    }
});
