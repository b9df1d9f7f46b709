#![no_main]
use libfuzzer_sys::fuzz_target;
use repo_format::id::ObjectId;
use repo_format::record::{Field, Fields, OutOfLine, Writer, logical_len, shrink};

fuzz_target!(|data: &[u8]| {
    // Behind a long field, so that the rules for moving out are reached.
    let mut long = Vec::new();
    Writer::new(&mut long).push(Field::Inline(&[b'x'; 9000]));
    long.extend_from_slice(data);
    let place = |long: &[u8]| OutOfLine { len: long.len() as u64, depth: 0, root: ObjectId([0; 32]) };
    let shrunk = shrink(&long, |long| Ok::<_, repo_format::Error>(place(long)));
    let fields: Result<Vec<_>, _> = Fields::new(data).collect();
    assert!(shrunk.is_ok() == fields.is_ok() && logical_len(data).is_ok() == fields.is_ok());
});
